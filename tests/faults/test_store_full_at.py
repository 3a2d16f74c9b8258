"""A disk that is full at every possible moment: out of blocks or of inodes, at the promise, a mkdir, a write, the publishing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.snapshots.store import Store
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint
from tests.snapshots.runs import METADATA, ROOMY, STATUS, Clock, chosen, decision, drive
from tests.waiting import PATIENCE

FEW = {"nr_inodes": (1, 8), "size": (16384, 110592)}
MANY = {"nr_inodes": tuple(range(1, 22)), "size": tuple(range(4096, 700_000, 20480))}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def limit(disk: Path, what: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{what}", str(disk)], check=True)


def is_full_at(disk: Path, base: Path, what: str, value: int) -> None:
    limit(disk, f"size=64m,nr_inodes=10000,{what}={value}")
    before = fingerprint(base)
    store, clock = Store(disk, ROOMY), Clock(1000)
    store.begin(decision(), METADATA, STATUS, clock())
    told = drive(store, chosen(base), speed=1000, limit=PATIENCE)
    for name in [n for n in os.listdir(disk / "snapshots") if not n.startswith(".")] if (disk / "snapshots").is_dir() else []:
        assert verify(disk / "snapshots" / name) == []
    assert {e.state for e in told} <= {"failed", "published"}, told
    assert told, "it is full, and nobody says so"
    limit(disk, "size=64m,nr_inodes=10000")
    deadline = time.monotonic() + PATIENCE
    while store.open:
        assert time.monotonic() < deadline
        told += store.pump(clock(), chosen(base))
        time.sleep(0.005)
    told += store.pump(clock(), chosen(base))
    store.stop(0)
    [name] = [e.name for e in told if e.state == "published"]
    assert verify(disk / "snapshots" / name) == []
    assert os.listdir(disk / "snapshots") == [name]
    assert before == fingerprint(base)


@pytest.mark.parametrize(("what", "value"), [(what, value) for what, values in FEW.items() for value in values])
def test_what_is_visible_is_whole_wherever_the_disk_was_full(tmp_path: Path, disk: Path, what: str, value: int) -> None:
    hf_checkpoint(tmp_path / "run" / "current_model", 500, size=100_000, files=5)
    is_full_at(disk, tmp_path / "run", what, value)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", list(MANY))
def test_what_is_visible_is_whole_at_every_step_of_a_growing_disk(tmp_path: Path, disk: Path, what: str) -> None:
    hf_checkpoint(tmp_path / "run" / "current_model", 500, size=100_000, files=5)
    for value in MANY[what]:
        is_full_at(disk, tmp_path / "run", what, value)
        for path in disk.iterdir():
            subprocess.run(["rm", "-rf", str(path)], check=True)


def test_a_source_that_can_not_be_read_is_told_and_everything_else_is_kept(tmp_path: Path) -> None:
    """Reading the memory of a process at address 0 fails with a real EIO, after an open and a stat that tell nothing of it."""
    from smart_monitor.model import Checkpoint, FileStamp
    from smart_monitor.snapshots.job import Choice

    hf_checkpoint(tmp_path / "current_model", 500)
    found = chosen(tmp_path)(None).checkpoint  # type: ignore[arg-type]
    assert found is not None
    info = os.stat("/proc/self/mem")
    sick = FileStamp("mem", 0, info.st_dev, info.st_ino, info.st_mtime_ns)
    mem = Checkpoint("checkpoint-600", f"/proc/{os.getpid()}", 600, "hf", "said so", time.time(), (sick,))
    store = Store(tmp_path, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    told = drive(store, lambda _: Choice(checkpoint=mem), speed=1000)
    store.stop(0)
    assert [e.state for e in told] == ["failed", "published"]
    assert told[0].why == "Input/output error"
    assert verify(tmp_path / "snapshots" / told[1].name) == []
