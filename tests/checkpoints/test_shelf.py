"""Which checkpoint the shelf hands out while a trainer writes, rotates and misbehaves."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from smart_monitor.checkpoints import candidate
from smart_monitor.checkpoints.shelf import Shelf
from tests.checkpoints.trees import age, fingerprint, hf_checkpoint, safetensors_bytes, torch_bytes

LATER = 2.0
"""Seconds after which everything a test has written lies still."""


def scanned(base: Path, after: float = LATER) -> Shelf:
    shelf = Shelf(base)
    shelf.scan(time.time() + after)
    return shelf


def newest(base: Path, since: float | None = None, after: float = LATER) -> str | None:
    found = scanned(base, after).newest(since, time.time() + after)
    return found.name if found else None


def model(base: Path) -> Path:
    path = base / "current_model"
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_the_highest_step_is_the_newest_whatever_the_modification_times_say(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 900, aged=500)
    hf_checkpoint(model(tmp_path), 1000, aged=900)
    assert newest(tmp_path) == "checkpoint-1000"


def test_a_checkpoint_is_described_by_what_proved_it_complete(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    found = scanned(tmp_path).newest(None, 0)
    assert found is not None
    assert (found.name, found.step, found.path, found.layout) == ("checkpoint-500", 500, str(path), "hf_trainer")
    assert "trainer_state.json parses" in found.complete_by
    assert {f.path for f in found.files} == set(os.listdir(path))
    assert found.completed == pytest.approx(max((path / f.path).stat().st_mtime for f in found.files))


def test_a_complete_older_one_is_chosen_while_the_newest_is_being_written(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500)
    writing = hf_checkpoint(model(tmp_path), 1000, marker=False)
    shelf = scanned(tmp_path)
    assert getattr(shelf.newest(None, 0), "name", None) == "checkpoint-500"
    assert shelf.incomplete(0) == ["checkpoint-1000 is not complete: trainer_state.json, which is written last, is missing"]
    (writing / "trainer_state.json").write_text('{"global_step": 10')
    assert newest(tmp_path) == "checkpoint-500"
    (writing / "trainer_state.json").write_text('{"global_step": 1000}')
    assert newest(tmp_path) == "checkpoint-1000"


def test_a_half_written_checkpoint_is_never_chosen_at_any_length(tmp_path: Path) -> None:
    whole = safetensors_bytes(4096)
    path = model(tmp_path) / "checkpoint-10"
    path.mkdir()
    shelf = Shelf(tmp_path)
    for length in [*range(200), *range(200, len(whole), 97)]:
        (path / "model.safetensors").write_bytes(whole[:length])
        shelf.scan(time.time() + LATER)
        assert shelf.newest(None, 0) is None
        assert shelf.incomplete(0)
    (path / "model.safetensors").write_bytes(whole)
    shelf.scan(time.time() + LATER)
    assert shelf.newest(None, 0) is not None


def test_an_empty_directory_is_never_complete(tmp_path: Path) -> None:
    (model(tmp_path) / "checkpoint-10").mkdir()
    shelf = scanned(tmp_path, 3600)
    assert shelf.newest(None, 0) is None
    assert shelf.incomplete(0) == ["checkpoint-10 is not complete: no file has been written yet"]


def test_configuration_alone_is_no_checkpoint(tmp_path: Path) -> None:
    (model(tmp_path) / "checkpoint-10").mkdir()
    (model(tmp_path) / "checkpoint-10" / "config.json").write_text("{}")
    assert newest(tmp_path, after=3600) is None


def test_without_a_sign_of_hugging_face_a_numbered_directory_is_complete_by_stillness(tmp_path: Path) -> None:
    path = model(tmp_path) / "checkpoint-17500"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(safetensors_bytes())
    (path / "weights.npz").write_bytes(b"of a format nobody here knows")
    assert newest(tmp_path) == "checkpoint-17500"


@pytest.mark.parametrize("sign", ["optimizer.pt", "rng_state_3.pth", "training_args.bin"])
def test_a_sign_of_hugging_face_asks_for_the_marker(tmp_path: Path, sign: str) -> None:
    path = model(tmp_path) / "checkpoint-17500"
    path.mkdir()
    (path / "model.safetensors").write_bytes(safetensors_bytes())
    (path / sign).write_bytes(torch_bytes())
    assert newest(tmp_path) is None


def test_a_sibling_with_a_marker_asks_for_the_marker(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500)
    path = model(tmp_path) / "checkpoint-600"
    path.mkdir()
    (path / "model.safetensors").write_bytes(safetensors_bytes())
    assert newest(tmp_path) == "checkpoint-500"


def test_a_checkpoint_that_tells_no_step_crashes_nothing_and_comes_last(tmp_path: Path) -> None:
    best = model(tmp_path) / "checkpoint-best"
    best.mkdir()
    (best / "model.safetensors").write_bytes(safetensors_bytes())
    (model(tmp_path) / "final.safetensors").write_bytes(safetensors_bytes())
    age(best, 30)
    assert newest(tmp_path) == "final.safetensors"
    hf_checkpoint(model(tmp_path), 10, aged=9999)
    assert newest(tmp_path) == "checkpoint-10"


def test_what_was_written_a_moment_ago_is_not_yet_still(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500, aged=0)
    assert newest(tmp_path, after=0.2) is None
    assert newest(tmp_path, after=1.2) == "checkpoint-500"


def test_restored_time_stamps_do_not_make_a_directory_still(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500, aged=9999)
    assert newest(tmp_path, after=0.2) is None


def test_time_stamps_from_the_future_are_still_once_two_scans_agree(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500, aged=-3600)
    shelf = Shelf(tmp_path)
    now = time.time()
    shelf.scan(now)
    assert shelf.newest(None, now) is None
    shelf.scan(now + 1.1)
    assert shelf.newest(None, now) is not None
    (path / "late.bin").write_bytes(torch_bytes())
    shelf.scan(now + 1.2)
    assert shelf.newest(None, now) is None


def test_a_clock_set_back_does_not_keep_a_checkpoint_restless(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500)
    shelf = Shelf(tmp_path)
    shelf.scan(time.time() + 86400)
    shelf.scan(time.time() - 86400)
    shelf.scan(time.time() - 86400 + 1.1)
    assert shelf.newest(None, 0) is not None


def test_the_newest_of_this_attempt_is_preferred_to_a_higher_step_of_the_last(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 9000, aged=5000)
    hf_checkpoint(model(tmp_path), 500, aged=100)
    hf_checkpoint(model(tmp_path), 400, aged=50)
    assert newest(tmp_path) == "checkpoint-9000"
    assert newest(tmp_path, since=time.time() - 1000) == "checkpoint-500"
    assert newest(tmp_path, since=time.time() + 1000) == "checkpoint-400"


@pytest.mark.parametrize("name", ["checkpoint-is-incomplete.txt", "model.safetensors.tmp", ".tmpAbC123"])
def test_a_sentinel_or_temporary_file_means_unfinished(tmp_path: Path, name: str) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    (path / name).write_text("")
    assert newest(tmp_path) is None


def test_a_temporary_file_that_a_killed_writer_left_long_ago_is_left_out(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    (path / ".tmpAbC123").write_text("")
    found = scanned(tmp_path, after=3600).newest(None, 0)
    assert found is not None
    assert found.external == ((".tmpAbC123", "a temporary file that its writer left behind"),)


def test_a_temporary_directory_is_no_checkpoint(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500).rename(model(tmp_path) / "tmp-checkpoint-500")
    assert newest(tmp_path) is None


def test_every_shard_and_every_indexed_file_must_be_there(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500, files=3)
    (path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00003.safetensors", "b": "head.safetensors"}}'
    )
    (path / "model-00002-of-00003.safetensors").unlink()
    [sentence] = scanned(tmp_path).incomplete(0)
    assert "head.safetensors is missing (named in model.safetensors.index.json)" in sentence
    assert "model-00002-of-00003.safetensors is missing" in sentence


def test_links_and_special_files_are_recorded_and_never_followed(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    outside = tmp_path / "secret"
    outside.write_text("not ours to copy")
    (path / "out").symlink_to(outside)
    (path / "up").symlink_to("../../current_model")
    (path / "gone").symlink_to("nothing-here")
    (path / "inside.json").symlink_to("config.json")
    os.mkfifo(path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path)  # the path of a socket may have 107 bytes only
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        found = scanned(tmp_path).newest(None, 0)
    assert found is not None
    said = dict(found.external)
    assert sorted(said) == ["fifo", "gone", "out", "socket", "up"]
    assert said["fifo"] == "a fifo, not a file"
    assert said["socket"] == "a socket, not a file"
    assert "out of the checkpoint" in said["out"]
    [inside] = [f for f in found.files if f.path == "inside.json"]
    assert inside.ino == (path / "config.json").stat().st_ino


def test_single_files_are_checkpoints_when_they_are_whole(tmp_path: Path) -> None:
    (model(tmp_path) / "epoch=1-step=200.ckpt").write_bytes(torch_bytes())
    (model(tmp_path) / "epoch=2-step=400.ckpt").write_bytes(torch_bytes()[:-1])
    (model(tmp_path) / "optimizer.pt").write_bytes(torch_bytes())
    shelf = scanned(tmp_path)
    found = shelf.newest(None, 0)
    assert found is not None
    assert (found.name, found.step, [f.path for f in found.files]) == ("epoch=1-step=200.ckpt", 200, ["."])
    assert ["epoch=2-step=400.ckpt" in s for s in shelf.incomplete(0)] == [True]
    assert [c.name for c in shelf.complete()] == ["epoch=1-step=200.ckpt"]


def test_a_link_to_a_neighbour_is_no_checkpoint_of_its_own_but_one_that_leads_elsewhere_is(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500)
    (model(tmp_path) / "latest").symlink_to("checkpoint-500")
    elsewhere = hf_checkpoint(tmp_path / "scratch", 600)
    (model(tmp_path) / "checkpoint-600").symlink_to(elsewhere)
    shelf = scanned(tmp_path)
    assert [c.name for c in shelf.complete()] == ["checkpoint-500", "checkpoint-600"]
    assert [c.path for c in shelf.complete()][1] == str(elsewhere)


def test_checkpoints_lying_directly_in_the_base_are_found_and_told(tmp_path: Path) -> None:
    assert not Shelf(tmp_path).in_base()
    hf_checkpoint(tmp_path, 500)
    assert Shelf(tmp_path).in_base()
    assert newest(tmp_path) == "checkpoint-500"


def test_what_the_monitor_keeps_is_never_found(tmp_path: Path) -> None:
    hf_checkpoint(tmp_path / "snapshots" / "anomaly_20260101_000000_nan" / "model", 500)
    hf_checkpoint(tmp_path / "anomaly_20260101_000000_nan" / "current_model", 500)
    hf_checkpoint(tmp_path / "logs", 600)
    shelf = scanned(tmp_path)
    assert shelf.complete() == []
    assert shelf.incomplete(0) == []
    assert not shelf.in_base()


def test_a_missing_base_a_file_in_its_place_and_a_vanishing_checkpoint_raise_nothing(tmp_path: Path) -> None:
    for base in (tmp_path / "nothing", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        shelf = scanned(base)
        assert (shelf.newest(None, 0), shelf.incomplete(0), shelf.model_files(), shelf.in_base()) == (None, [], None, False)
    shelf = Shelf(tmp_path)
    path = hf_checkpoint(model(tmp_path), 500)
    shelf.scan(time.time() + LATER)
    shutil.rmtree(path)
    shelf.scan(time.time() + LATER)
    assert shelf.newest(None, 0) is None


def test_model_files_are_a_whitelist_and_the_damaged_are_named(tmp_path: Path) -> None:
    root = model(tmp_path)
    for name in ("adapter_model.safetensors", "model-00001-of-00002.safetensors"):
        (root / name).write_bytes(safetensors_bytes())
    (root / "broken.safetensors").write_bytes(safetensors_bytes()[:-1])
    (root / "lora-step-100.safetensors").write_bytes(safetensors_bytes())
    for name in ("adapter_config.json", "tokenizer.json", "train.jsonl", "data.parquet", "model.safetensors.tmp", "notes.txt"):
        (root / name).write_text("{}")
    (root / "data").mkdir()
    found = scanned(tmp_path).model_files()
    assert found is not None
    expected = ["adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json"]
    assert expected == [f.path for f in found.files]
    said = dict(found.external)
    assert sorted(said) == ["broken.safetensors", "model-00002-of-00002.safetensors"]
    assert "where its header says" in said["broken.safetensors"]


def test_model_files_in_the_base_count_only_with_weights_among_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert scanned(tmp_path).model_files() is None
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes())
    found = scanned(tmp_path).model_files()
    assert found is not None
    assert [f.path for f in found.files] == ["config.json", "model.safetensors"]


def test_more_entries_than_are_looked_at_are_said_and_never_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    for k in range(20):
        (path / f"{k}").touch()
    monkeypatch.setattr(candidate, "MAX_ENTRIES", 20)
    [sentence] = scanned(tmp_path).incomplete(0)
    assert sentence == "checkpoint-500 is not complete: more than 20 entries in its directory"


def test_a_save_of_thousands_of_ranks_in_one_directory_is_complete(tmp_path: Path) -> None:
    path = hf_checkpoint(model(tmp_path), 500)
    for k in range(4096):
        (path / f"rank_{k:05d}.state").write_bytes(b"x")
    [found] = scanned(tmp_path).complete()
    assert len(found.files) > 4096


def test_looking_changes_nothing_in_the_trainers_directory(tmp_path: Path) -> None:
    hf_checkpoint(model(tmp_path), 500, files=2)
    (model(tmp_path) / "model.safetensors").write_bytes(safetensors_bytes())
    before = fingerprint(tmp_path)
    shelf = scanned(tmp_path)
    assert shelf.newest(None, 0)
    assert shelf.model_files()
    assert before == fingerprint(tmp_path)


def test_a_hostile_name_stays_on_one_line(tmp_path: Path) -> None:
    path = model(tmp_path) / "checkpoint-best\n[ALERT] forged"
    path.mkdir()
    [sentence] = scanned(tmp_path).incomplete(0)
    assert "\n" not in sentence
    assert "checkpoint-best\\n[ALERT] forged" in sentence
