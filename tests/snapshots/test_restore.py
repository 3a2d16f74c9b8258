"""Restoring: whole under the final name or not there, never over what stands, never what was not published."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.snapshots.prune import prune
from smart_monitor.snapshots.restore import Refused, restore
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint
from tests.snapshots.made import NOW, made
from tests.snapshots.runs import snapshot
from tests.waiting import until

ROOT = Path(__file__).parents[2]
FILES = {
    "model/checkpoint-100/model.safetensors": b"w" * 4000, "model/checkpoint-100/global_step100/mp_rank_00.pt": b"o" * 3000,
    "model/adapter_model.safetensors": b"a" * 10, "last_good/checkpoint-50/model.safetensors": b"g" * 2000,
}  # fmt: skip
GOOD = {"name": "checkpoint-50", "source": "/r", "step": 50, "layout": "hf_trainer", "steps_before_onset": 40}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return made(tmp_path / "run", files=FILES, last_good=GOOD)


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_real_checkpoint_comes_back_file_by_file(tmp_path: Path) -> None:
    source = hf_checkpoint(tmp_path / "run" / "current_model", 500, files=2)
    path = snapshot(tmp_path / "run", tmp_path / "run")
    before = fingerprint(path)
    done = restore(path, tmp_path / "new" / "place")
    assert tree(source) == tree(tmp_path / "new" / "place")
    assert sorted(tree(source)) == sorted(done.files)
    assert ["place"] == os.listdir(tmp_path / "new")
    assert before == fingerprint(path)


def test_the_last_good_one_is_another_part(kept: Path, tmp_path: Path) -> None:
    restore(kept, tmp_path / "newest")
    restore(kept, tmp_path / "good", last_good=True)
    assert {"model.safetensors": b"w" * 4000, "global_step100/mp_rank_00.pt": b"o" * 3000} == tree(tmp_path / "newest")
    assert {"model.safetensors": b"g" * 2000} == tree(tmp_path / "good")


def test_a_checkpoint_of_one_file_and_model_files_alone_come_back_too(tmp_path: Path) -> None:
    single = made(tmp_path, files={"model/x.ckpt": b"1", "model/config.json": b"2"}, checkpoint={"name": "x.ckpt", "layout": "l"})
    restore(single, tmp_path / "one")
    assert {"x.ckpt": b"1"} == tree(tmp_path / "one")
    model = made(tmp_path, "stall", files={"model/a.safetensors": b"1"}, checkpoint={"name": "current_model"})
    restore(model, tmp_path / "two")
    assert {"a.safetensors": b"1"} == tree(tmp_path / "two")


def test_modes_are_what_the_umask_says_and_the_copy_shares_nothing(kept: Path, tmp_path: Path) -> None:
    for path in kept.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    code = f"""
import os, pathlib
from smart_monitor.snapshots.restore import restore
os.umask(0o027)
restore(pathlib.Path({str(kept)!r}), pathlib.Path({str(tmp_path / "new")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    found = {p: stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "new", *(tmp_path / "new").rglob("*")]}
    assert {0o640 if p.is_file() else 0o750 for p in found} == set(found.values())
    theirs = {p.stat().st_ino for p in kept.rglob("*")}
    assert not theirs & {p.stat().st_ino for p in found}


@pytest.mark.parametrize("what", ["directory", "empty directory", "file", "broken link"])
def test_what_is_there_is_never_written_over_unasked(kept: Path, tmp_path: Path, what: str) -> None:
    target = tmp_path / "there"
    if what == "file":
        target.write_text("mine")
    elif what == "broken link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
        if what == "directory":
            (target / "mine").write_text("mine")
    before = fingerprint(tmp_path)
    with pytest.raises(Refused, match="is there already"):
        restore(kept, target)
    assert before == fingerprint(tmp_path)
    done = restore(kept, target, replace=True)
    assert 4000 == (target / "model.safetensors").stat().st_size
    assert done.aside
    assert done.aside.name.startswith("there.before-")
    if what == "directory":
        assert {"mine": b"mine"} == tree(done.aside)


@pytest.mark.parametrize("name", ["測" * 85, "x" * 255, os.fsdecode(b"\xff" * 255), "a\nb"])
def test_any_name_that_a_directory_can_have_will_do(kept: Path, tmp_path: Path, name: str) -> None:
    restore(kept, tmp_path / "new" / name)
    assert [name] == os.listdir(tmp_path / "new")


def test_one_that_appears_while_it_is_copied_is_not_written_over(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"

    def passed(_: int) -> None:
        target.mkdir(exist_ok=True)

    with pytest.raises(Refused, match="has appeared meanwhile"):
        restore(kept, target, passed=passed)
    assert [] == os.listdir(target)
    assert sorted(["run", "there"]) == sorted(os.listdir(tmp_path))


def test_it_refuses_to_write_below_snapshots_or_around_them(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(kept.parent)
    for target in (
        kept.parent / "x",
        kept / "model" / "x",
        kept,
        tmp_path / "way" / "x",
        tmp_path / "run" / ".smart_monitor" / "x",
    ):
        with pytest.raises(Refused, match="no place to restore to"):
            restore(kept, target, replace=True)
    with pytest.raises(Refused, match="no place to restore to"):
        restore(kept, tmp_path / "run", replace=True)
    assert [] == verify(kept)


def test_while_it_is_copied_beside_checkpoints_nobody_takes_it_for_one(tmp_path: Path) -> None:
    hf_checkpoint(tmp_path / "current_model", 500)
    path = snapshot(tmp_path, tmp_path)
    seen: set[str] = set()

    def passed(_: int) -> None:
        shelf = Shelf(tmp_path)
        shelf.scan(time.time() + 100)
        seen.update(c.name for c in shelf.complete())

    restore(path, tmp_path / "current_model" / "checkpoint-900", passed=passed)
    assert {"checkpoint-500"} == seen
    passed(0)
    assert {"checkpoint-500", "checkpoint-900"} == seen


@pytest.mark.parametrize("name", ["model/checkpoint-100/model.safetensors", "metadata.json", "SHA256SUMS"])
def test_a_flipped_bit_is_refused_unless_asked_for_and_then_named(kept: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((kept / name).read_bytes())
    at = {"metadata.json": content.find(b"steps"), "SHA256SUMS": content.find(b"  model/checkpoint-100/model") - 1}.get(name, 0)
    content[at] ^= 1
    (kept / name).write_bytes(content)
    with pytest.raises(Refused):
        restore(kept, tmp_path / "new")
    assert ["run"] == os.listdir(tmp_path)
    if name != "metadata.json":
        done = restore(kept, tmp_path / "new", unverified=True)
        assert ("model/checkpoint-100/model.safetensors",) == done.bad
    if name.startswith("model/"):
        assert bytes(content) == (tmp_path / "new" / "model.safetensors").read_bytes()


def test_a_file_that_is_gone_a_link_or_outside_is_refused(kept: Path, tmp_path: Path) -> None:
    weights = kept / "model/checkpoint-100/model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(Refused, match="can't be read"):
        restore(kept, tmp_path / "new", unverified=True)
    (tmp_path / "run" / "w").write_bytes(content)
    weights.symlink_to(tmp_path / "run" / "w")
    with pytest.raises(Refused, match="can't be read"):
        restore(kept, tmp_path / "new", unverified=True)
    for path in ("model/checkpoint-100/../../../x", "model/checkpoint-100//x", "model/checkpoint-100/"):
        document = json.loads((kept / "metadata.json").read_text())
        document["files"][0]["path"] = path
        (kept / "metadata.json").write_text(json.dumps(document))
        with pytest.raises(Refused, match="outside"):
            restore(kept, tmp_path / "new", unverified=True)
    assert ["run"] == os.listdir(tmp_path)


def test_words_without_a_checkpoint_can_not_be_restored(tmp_path: Path) -> None:
    path = made(tmp_path, files={})
    with pytest.raises(Refused, match="only the words"):
        restore(path, tmp_path / "new")
    with pytest.raises(Refused, match="no last good checkpoint"):
        restore(path, tmp_path / "new", last_good=True)


def test_while_it_is_restored_it_is_not_dropped(kept: Path, tmp_path: Path) -> None:
    from smart_monitor.config import Settings

    made(tmp_path / "run", at=NOW + 1)
    troubles: list[str] = []

    def passed(_: int) -> None:
        troubles.extend(prune(tmp_path / "run", Settings(keep_last=0), NOW + 90 * 86400).troubles)

    restore(kept, tmp_path / "new", passed=passed)
    assert {f"could not drop {kept.name}: it is being read"} == set(troubles)
    assert [kept.name] == [v.name for v in prune(tmp_path / "run", Settings(keep_last=0), NOW + 90 * 86400).dropped]


RESTORER = """
import pathlib, sys, time
from smart_monitor.snapshots.restore import restore
restore(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), passed=lambda _: time.sleep(600))
"""


def test_killed_in_the_middle_nothing_stands_under_the_name_and_the_next_one_cleans_up(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "checkpoint-100"
    target.parent.mkdir()
    restorer = subprocess.Popen([sys.executable, "-c", RESTORER, kept, target], cwd=ROOT)
    until(lambda: any(p.is_file() for p in target.parent.rglob("*")))
    assert [] == restorer_leaves(target)
    (tmp_path / "new" / ".restoring-elsewhere-1-1-x.tmp").mkdir()
    other = subprocess.Popen([sys.executable, "-c", RESTORER, kept, tmp_path / "new" / "other"], cwd=ROOT)
    until(lambda: 3 == len(os.listdir(target.parent)))
    restorer.send_signal(signal.SIGKILL)
    restorer.wait()
    assert not target.exists()
    restore(kept, target)
    assert 4000 == (target / "model.safetensors").stat().st_size
    left = [n for n in os.listdir(target.parent) if n.startswith(".restoring-")]
    assert 2 == len(left), "those of another machine and of one that lives are left alone"
    other.kill()
    other.wait()
    shutil.rmtree(target)
    restore(kept, target)
    assert [".restoring-elsewhere-1-1-x.tmp", "checkpoint-100"] == sorted(os.listdir(target.parent))


def restorer_leaves(target: Path) -> list[str]:
    """Names without a dot that stand there while it works."""
    time.sleep(0.05)
    return [n for n in os.listdir(target.parent) if not n.startswith(".")]
