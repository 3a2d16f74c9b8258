"""What is published is on the disk, and what is on the disk is what was read: the order of the last steps, seen from inside."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smart_monitor.config import Settings
from smart_monitor.model import Checkpoint, FileStamp
from smart_monitor.snapshots import copy, worker
from smart_monitor.snapshots.copy import Copier, Source
from smart_monitor.snapshots.intents import Intent
from smart_monitor.snapshots.job import Choice, job_of
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import hf_checkpoint
from tests.snapshots.runs import ROOMY, complete

ROOT = Path(__file__).resolve().parents[2]
NAME = "anomaly_20260101_000000_nan"


class Alive:
    """A life that nobody ends."""

    def begin(self, phase: str, total: int) -> None:
        pass

    def passed(self, amount: int) -> None:
        pass

    def seal(self) -> None:
        pass

    def deafen(self) -> None:
        pass


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    hf_checkpoint(tmp_path / "run" / "current_model", 500, size=100_000, files=3)
    found = complete(tmp_path / "run")
    assert found is not None
    nested = hf_checkpoint(tmp_path / "run" / "current_model", 400, size=1000)
    (nested / "global_step400").mkdir()
    (nested / "global_step400" / "mp_rank_00_model_states.pt").write_bytes(b"x")
    good = dataclasses.replace(found, path=str(nested), name="checkpoint-400", step=400, completed=1.0, files=stamps(nested))
    intent = Intent("id", NAME, "nan", 0.0, "20260101_000000", {}, b"{}")
    choice = Choice(checkpoint=found, last_good=good)
    return job_of(intent, choice, ROOMY, tmp_path / "out", last_resort=False, largest=0, theirs=set())


def stamps(folder: Path) -> tuple[Any, ...]:
    from smart_monitor.checkpoints.candidate import Budget, look

    return tuple(f.stamp for f in look(folder, False, Budget(), 0.0).files)


def inodes(folder: Path) -> dict[int, str]:
    """Of everything in a directory and itself."""
    return {p.stat().st_ino: str(p.relative_to(folder)) for p in [folder, *folder.rglob("*")]}


def test_every_file_and_directory_is_on_the_disk_before_the_name_and_then_the_name(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    missing: dict[int, str] = {}
    fsync, rename = os.fsync, os.rename

    def note_sync(fd: int) -> None:
        fsync(fd)
        synced.append(os.fstat(fd).st_ino)

    def note_rename(old: str, new: str, **where: Any) -> None:
        if new == NAME:
            [partial] = (tmp_path / "out" / "snapshots").glob(".partial-*")
            missing.update({ino: name for ino, name in inodes(partial).items() if ino not in synced})
            synced.clear()
        rename(old, new, **where)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    assert worker.perform(job, Alive())["name"] == NAME  # type: ignore[arg-type]
    kept = tmp_path / "out" / "snapshots" / NAME
    assert {"model/checkpoint-500", "last_good/checkpoint-400/global_step400"} <= set(inodes(kept).values())
    assert {} == missing
    assert [kept.parent.stat().st_ino] == synced
    assert verify(kept) == []


def test_what_does_not_read_back_as_it_was_written_is_not_published(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit that falls over on the way to the disk."""
    honest = Copier.copy

    def rotten(self: Copier, src: int, dst: int, source: Source) -> tuple[str, str]:
        done = honest(self, src, dst, source)
        if source.dest.endswith(".safetensors"):
            os.pwrite(dst, bytes([os.pread(dst, 1, 90)[0] ^ 1]), 90)
        return done

    monkeypatch.setattr(Copier, "copy", rotten)
    with pytest.raises(OSError, match="did not read back as it was written"):
        worker.perform(job, Alive())  # type: ignore[arg-type]
    assert [] == os.listdir(tmp_path / "out" / "snapshots")


def test_without_the_kernels_help_dirty_pages_are_bounded_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, waiting, most = tmp_path / "source", 0, 0
    path.write_bytes(b"x" * 40_000)
    pwritev, fdatasync = os.pwritev, os.fdatasync

    def write(fd: int, pieces: Any, offset: int, flags: int = 0) -> int:
        nonlocal waiting, most
        count = pwritev(fd, pieces, offset, flags)
        waiting += count
        most = max(most, waiting)
        return count

    def sync(fd: int) -> None:
        nonlocal waiting
        fdatasync(fd)
        waiting = 0

    monkeypatch.setattr(os, "pwritev", write)
    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(copy, "WINDOW", 4000)
    info = path.stat()
    fd, dst = os.open(path, os.O_RDONLY), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    pace = Pace(0, lambda _: None)
    pace.chunk = 1000
    with Copier(pace) as copier:
        copier._flags.update(read=0, write=0)  # as on kernels and file systems without RWF_DONTCACHE
        copier.copy(fd, dst, Source("source", "source", info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns))
    os.close(fd)
    os.close(dst)
    assert 4000 == most


@pytest.mark.parametrize(("gib", "need", "fits"), [(50, 28, True), (50, 29, False), (200, 26, True), (200, 27, False)])
def test_after_a_copy_two_of_the_largest_and_two_gib_or_two_per_cent_stay_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: int, need: int, fits: bool
) -> None:
    """Of a disk of 50 or 200 GiB 50 are free; the largest checkpoint has 10."""
    hf_checkpoint(tmp_path, 500)
    intent, choice = Intent("id", NAME, "nan", 0.0, "20260101_000000", {}, b"{}"), Choice(checkpoint=complete(tmp_path))
    asked = job_of(intent, choice, Settings(), tmp_path, last_resort=False, largest=10 * 2**30, theirs=set())["reserve"]
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=50 * 2**20, f_frsize=1024, f_blocks=gib * 2**20))
    if fits:
        worker.require_space(0, asked, need * 2**30)
    else:
        with pytest.raises(OSError, match="must stay free"):
            worker.require_space(0, asked, need * 2**30)


@pytest.mark.parametrize(("number", "result"), [(errno.ENOSPC, "space"), (errno.EDQUOT, "space"), (errno.EIO, "failed")])
def test_a_quota_that_is_used_up_counts_as_a_full_disk(number: int, result: str) -> None:
    code = (
        "import os, sys; from smart_monitor.snapshots import worker\n"
        f"def full(job, life): raise OSError({number}, 'so it is')\n"
        "worker.perform = full; sys.exit(worker.main())"
    )
    job = f'{{"parent": {os.getpid()}}}'
    done = subprocess.run([sys.executable, "-c", code], input=job, capture_output=True, text=True, check=False, cwd=ROOT)
    assert f'"result": "{result}"' in done.stdout


def test_a_last_good_one_that_does_not_stand_still_is_given_up_for_the_sake_of_the_checkpoint(job: dict[str, Any]) -> None:
    assert ["model/checkpoint-500", "last_good/checkpoint-400"] == [group["below"] for group in job["groups"]]
    stamp = FileStamp("w", 1, 1, 1, 1)
    found = Checkpoint("checkpoint-500", "/r/checkpoint-500", 500, "hf", "m", 2.0, (stamp,))
    choice = Choice(checkpoint=found, last_good=dataclasses.replace(found, name="checkpoint-400", completed=1.0))
    intent = Intent("id", NAME, "nan", 0.0, "20260101_000000", {}, b"{}", changed=2, why="it was overwritten")
    again = job_of(intent, choice, ROOMY, Path("/r"), last_resort=False, largest=0, theirs=set())
    assert ["model/checkpoint-500"] == [group["below"] for group in again["groups"]]
    assert [{"what": "last_good", "why": "it was overwritten"}] == again["missing"]
