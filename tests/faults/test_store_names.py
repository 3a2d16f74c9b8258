"""Names that a trainer or a careless hand may choose."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from smart_monitor.snapshots.store import Store
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint, safetensors_bytes
from tests.snapshots.runs import METADATA, ROOMY, STATUS, chosen, decision, drive, snapshot

HOSTILE = [
    b"new\nline",
    b"-rf",
    b"\xff\xfe",
    b"back\\slash",
    b"car\rriage",
    b" ",
    b"x" * 255,
    "ünïcödé".encode(),
    b"*",
    b'"',
    b"$(id)",
]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_checkpoint_and_files_of_any_name_are_kept_and_check_out(tmp_path: Path, name: bytes) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"current_model", b"checkpoint-" + name[: 255 - 11])
    os.makedirs(os.path.join(folder, name))
    for path in (os.path.join(folder, name, name), os.path.join(folder, b"model.safetensors")):
        with open(path, "wb") as file:
            file.write(safetensors_bytes(64))
    kept = snapshot(tmp_path, tmp_path)
    inside = os.path.join(os.fsencode(kept), b"model", os.path.basename(folder))
    assert sorted(os.listdir(inside)) == sorted([name, b"model.safetensors"])
    assert os.listdir(os.path.join(inside, name)) == [name]
    assert verify(kept) == []
    json.loads((kept / "metadata.json").read_bytes().decode("ascii"))
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=kept, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("reason", ["../../etc", "a/b", "", ".", "..", "x" * 500, "new\nline", "ünï", "a b"])
def test_no_reason_leads_out_of_the_directory(tmp_path: Path, reason: str) -> None:
    kept = snapshot(tmp_path, tmp_path, reason=reason)
    assert kept.parent == tmp_path / "snapshots"
    assert os.listdir(tmp_path / "snapshots") == [kept.name]
    assert verify(kept) == []
    assert json.loads((kept / "metadata.json").read_text())["reason"] == reason


@pytest.mark.parametrize("name", ["x" * 5000, "../../x", "a/b", "\0", "ü", "\udcff"])
def test_no_decision_id_leads_out_of_the_intents(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path, ROOMY)
    store.begin(decision(name), METADATA, STATUS, time.time())
    assert len(os.listdir(tmp_path / ".smart_monitor" / "intents")) == 1
    [event] = drive(store, chosen(tmp_path))
    store.stop(0)
    assert event.id == decision(name).id
    assert Store(tmp_path, ROOMY).begin(decision(name), METADATA, STATUS, time.time()).name == event.name


def test_what_is_no_file_is_named_in_the_metadata_and_not_copied(tmp_path: Path) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500)
    (tmp_path / "outside").write_text("secret")
    (path / "out").symlink_to(tmp_path / "outside")
    (path / "inside").symlink_to("config.json")
    os.mkfifo(path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        before = fingerprint(tmp_path / "current_model")
        kept = snapshot(tmp_path, tmp_path)
    document = json.loads((kept / "metadata.json").read_text())
    assert [m["path"].rpartition("/")[2] for m in document["missing"]] == ["fifo", "out", "socket"]
    inside = kept / "model" / "checkpoint-500" / "inside"
    assert not inside.is_symlink()
    assert inside.read_text() == "{}"
    assert not list(kept.rglob("out"))
    assert before == fingerprint(tmp_path / "current_model")


def test_a_single_file_is_kept_once_though_it_is_checkpoint_and_model_file(tmp_path: Path) -> None:
    (tmp_path / "current_model").mkdir()
    (tmp_path / "current_model" / "final.safetensors").write_bytes(safetensors_bytes())
    kept = snapshot(tmp_path, tmp_path)
    document = json.loads((kept / "metadata.json").read_text())
    assert document["checkpoint"]["name"] == "final.safetensors"
    assert [f["path"] for f in document["files"]] == ["training_status.json", "model/final.safetensors"]
    assert document["missing"] == []


def test_a_model_file_named_as_the_checkpoint_does_not_stand_in_its_way(tmp_path: Path) -> None:
    hf_checkpoint(tmp_path, 500).rename(tmp_path / "checkpoint-x.safetensors")
    (tmp_path / "current_model").mkdir()
    (tmp_path / "current_model" / "checkpoint-x.safetensors").write_bytes(safetensors_bytes())
    (tmp_path / "current_model" / "config.json").write_text("{}")
    kept = snapshot(tmp_path, tmp_path)
    assert verify(kept) == []
