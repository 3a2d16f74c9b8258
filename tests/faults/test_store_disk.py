"""Full disks, read-only disks, clones, a snapshots/ that someone moved or deleted. Mounts need root: skipped aloud without."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.snapshots.copy import CLOCK_GRAIN
from smart_monitor.snapshots.job import Choice
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.retention import storage
from smart_monitor.snapshots.store import Needs, Store, StoreEvent
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint
from tests.hands import delete_by_hand
from tests.snapshots.runs import METADATA, ROOMY, STATUS, Clock, chosen, complete, decision, drive
from tests.waiting import PATIENCE, until


def mounted(path: Path, *command: str) -> Iterator[Path]:
    path.mkdir()
    done = (
        subprocess.run(["mount", *command, str(path)], capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    )
    if done is None or done.returncode:
        pytest.skip(f"can't mount a file system here: {done.stderr.strip() if done else 'not root'}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    yield from mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=8m", "none")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    hf_checkpoint(tmp_path / "run" / "current_model", 500, size=1_000_000, files=5)
    return tmp_path / "run"


def fill(disk: Path, leave: int) -> Path:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as file:  # a worker may be faster
        file.write(b"\0" * max(0, free - leave))
    return ballast


def test_a_disk_that_fills_up_in_mid_copy_costs_the_checkpoint_but_not_the_evidence(small: Path, base: Path) -> None:
    store, clock, events = Store(small, dataclasses.replace(ROOMY, copy_rate_mb=2)), Clock(500), list[StoreEvent]()
    store.begin(decision(), METADATA, STATUS, clock())
    hit = 0
    while store.busy:
        events += store.pump(clock(), chosen(base))
        if list(small.glob("snapshots/.partial-*/model/*/*.safetensors")):
            hit += not (small / "ballast").exists()
            fill(small, 100_000)
        elif store.open and store.open[0].tries <= 4:
            (small / "ballast").unlink(missing_ok=True)
        time.sleep(0.002)
    store.stop(0)
    assert hit == 5
    assert [e.state for e in events] == ["failed", "published"]
    assert events[0].why == "No space left on device"
    [kept] = list_snapshots(small)
    assert (kept.checkpoint, verify(kept.path)) == (None, [])
    assert [n for n in os.listdir(small / "snapshots") if n.startswith(".")] == []


def test_too_little_space_is_said_before_a_byte_is_copied(small: Path, base: Path) -> None:
    fill(small, 3_000_000)
    events = run(small, base, ROOMY)
    assert [e.state for e in events] == ["failed", "published"]
    assert events[0].why == "2.9 MiB are free, the copy takes 4.8 MiB and 0 B must stay free"


def test_the_room_that_stays_free_is_measured_by_the_largest_checkpoint_and_not_by_the_one_that_is_copied(
    small: Path, base: Path
) -> None:
    store, found = Store(small, dataclasses.replace(ROOMY, spare_checkpoints=2.0)), complete(base)
    store.begin(decision(), METADATA, STATUS, time.time())
    events = drive(store, lambda _: Choice(checkpoint=found, largest=50 * 2**20), speed=1000)
    store.stop(0)
    assert "the copy takes 4.8 MiB and 100.0 MiB must stay free" in events[0].why


def test_the_copy_is_made_as_soon_as_there_is_space_again(small: Path, base: Path) -> None:
    ballast = fill(small, 3_000_000)
    store, clock = Store(small, ROOMY), Clock(30)
    store.begin(decision(), METADATA, STATUS, clock())
    until(lambda: not store.pump(clock(), chosen(base)) and store.open[0].tries > 0)
    ballast.unlink()
    assert [e.state for e in drive(store, chosen(base), speed=30)] == ["published"]
    store.stop(0)
    [kept] = list_snapshots(small)
    assert (kept.checkpoint, verify(kept.path)) == ("checkpoint-500", [])


def test_a_disk_too_full_even_for_the_promise_is_told_and_the_promise_is_kept_later(small: Path, base: Path) -> None:
    ballast = fill(small, 0)
    store, clock, events = Store(small, ROOMY), Clock(1000), list[StoreEvent]()
    store.begin(decision(), METADATA, STATUS, clock())
    deadline = time.monotonic() + PATIENCE
    while store.busy and time.monotonic() < deadline:
        events += store.pump(clock(), chosen(base))
        time.sleep(0.003)
    assert {e.state for e in events} == {"failed"}
    assert any("promise can't be written" in e.why for e in events)
    assert any("not even its metadata" in e.why for e in events)
    assert list_snapshots(small) == []
    ballast.unlink()
    events.clear()
    while not events:
        assert time.monotonic() < deadline
        events += store.pump(clock(), chosen(base))
        time.sleep(0.003)
    assert [e.state for e in events] == ["published"]
    store.stop(0)
    [kept] = list_snapshots(small)
    assert verify(kept.path) == []


def test_a_read_only_disk_raises_nothing_and_is_told(small: Path, base: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    events = run(small, base, ROOMY)
    assert {e.state for e in events} == {"failed"}
    assert all("Read-only file system" in e.why for e in events)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert os.listdir(small) == []


def test_a_place_that_nothing_could_be_written_to_gets_the_checkpoint_once_it_can(
    tmp_path: Path, small: Path, base: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "snapshots").symlink_to(small)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    store, clock = Store(tmp_path / "out", ROOMY), Clock(1000)
    store.begin(decision(), METADATA, STATUS, clock(), Needs(hold="hold-of-it"))
    events, seen, deadline = list[StoreEvent](), set[int](), time.monotonic() + PATIENCE
    while len(seen) < 2:  # until it has tried in full again after not even the words could be kept
        assert time.monotonic() < deadline
        events += store.pump(clock(), chosen(base))
        if any("not even its metadata" in e.why for e in events) and not store.busy:
            seen.add(int(store.open[0].not_before))
        time.sleep(0.003)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    while store.open:
        assert time.monotonic() < deadline
        events += store.pump(clock(), chosen(base))
        time.sleep(0.003)
    store.stop(0)
    assert {e.state for e in events[:-1]} == {"failed"}
    [kept] = list_snapshots(tmp_path / "out")
    assert (kept.checkpoint, verify(kept.path)) == ("checkpoint-500", [])


def run(out: Path, base: Path, settings: Settings, name: str = "one") -> list[StoreEvent]:
    store = Store(out, settings)
    store.begin(decision(name), METADATA, STATUS, time.time())
    events = drive(store, chosen(base), speed=1000)
    store.stop(0)
    return events


def test_a_file_system_that_can_clone_shares_blocks_and_never_inodes(tmp_path: Path) -> None:
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("no mkfs.xfs here: clones are not tested")
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(400 * 2**20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    for disk in mounted(tmp_path / "xfs", "-o", "loop", str(image)):
        path = hf_checkpoint(disk / "current_model", 500, size=1_000_000)
        before = fingerprint(disk / "current_model")
        [event] = run(disk, disk, ROOMY)
        assert before == fingerprint(disk / "current_model")
        kept = disk / "snapshots" / event.name
        files = {f["path"]: f["how"] for f in json.loads((kept / "metadata.json").read_text())["files"]}
        assert files.pop("training_status.json") == "copy"
        assert set(files.values()) == {"clone"}
        [event] = run(disk, disk, ROOMY, "two")
        second = disk / "snapshots" / event.name
        files = {f["path"]: f["how"] for f in json.loads((second / "metadata.json").read_text())["files"]}
        assert files.pop("training_status.json") == "copy"
        assert set(files.values()) == {"shared"}
        assert {p.stat().st_nlink for p in disk.rglob("*") if p.is_file()} == {1}
        assert {p.stat().st_mode & 0o777 for p in second.rglob("*") if p.is_file()} == {0o600}
        listed = list_snapshots(disk)
        assert storage(listed) == storage(listed[:1]) + len(STATUS)
        for edited in (path / "model.safetensors", second / "model" / "checkpoint-500" / "model.safetensors"):
            with open(edited, "r+b") as file:
                file.write(b"overwritten in place")
        assert (verify(kept), len(verify(second))) == ([], 1)


def test_a_checkpoint_that_stands_already_needs_no_space(small: Path, base: Path) -> None:
    time.sleep(2 * CLOCK_GRAIN)
    [first] = run(small, base, ROOMY)
    fill(small, 1_000_000)
    [second] = run(small, base, dataclasses.replace(ROOMY, spare_checkpoints=2.0), "two")
    assert [first.state, second.state] == ["published"] * 2
    assert [(s.checkpoint, verify(s.path)) for s in list_snapshots(small)] == [("checkpoint-500", [])] * 2


@pytest.mark.parametrize("where", ["snapshots", ".smart_monitor", "both"])
def test_what_is_deleted_by_hand_in_mid_copy_is_made_anew(tmp_path: Path, base: Path, where: str) -> None:
    store = Store(tmp_path, dataclasses.replace(ROOMY, copy_rate_mb=20))
    store.begin(decision(), METADATA, STATUS, time.time())
    store.pump(time.time(), chosen(base))
    until(lambda: bool(list(tmp_path.glob("snapshots/.partial-*/model"))))
    for folder in ("snapshots", ".smart_monitor"):
        if where in (folder, "both"):
            delete_by_hand(tmp_path / folder)
    events = drive(store, chosen(base), speed=30)
    store.stop(0)
    assert [e.state for e in events] == ["published"]
    [kept] = list_snapshots(tmp_path)
    assert (kept.checkpoint, verify(kept.path)) == ("checkpoint-500", [])


def test_snapshots_moved_to_a_larger_disk_by_a_link_are_published_there(tmp_path: Path, base: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "snapshots").symlink_to("large")
    assert [e.state for e in run(tmp_path, base, ROOMY)] == ["published"]
    [name] = os.listdir(tmp_path / "large")
    assert verify(tmp_path / "large" / name) == []


@pytest.mark.parametrize("target", ["current_model", "current_model/checkpoint-500", "current_model/checkpoint-500/deeper"])
def test_a_link_into_the_trainers_directory_is_refused(tmp_path: Path, base: Path, target: str) -> None:
    (base / "current_model" / "checkpoint-500" / "deeper").mkdir()
    before = fingerprint(base / "current_model")
    (tmp_path / "snapshots").symlink_to(base / target)
    found = complete(base)
    store = Store(tmp_path, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    clock, events = Clock(1000), list[StoreEvent]()
    while store.busy:
        events += store.pump(clock(), lambda _: Choice(checkpoint=found))
        time.sleep(0.005)
    store.stop(1)
    assert "a link into the trainer's directory" in events[0].why
    assert store.open != ()
    assert before == fingerprint(base / "current_model")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_private_and_usable_whatever_the_umask(tmp_path: Path, base: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        [event] = run(tmp_path / "out" / "deeper", base, ROOMY)
    finally:
        os.umask(old)
    out = tmp_path / "out" / "deeper"
    assert verify(out / "snapshots" / event.name) == []
    for path in [out, *out.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_clock_set_back_changes_names_and_loses_nothing(tmp_path: Path, base: Path) -> None:
    store = Store(tmp_path, ROOMY)
    store.begin(decision("a"), METADATA, STATUS, time.time())
    drive(store, chosen(base))
    store.begin(decision("b"), METADATA, STATUS, time.time() - 10 * 86400)
    store.begin(decision("c"), METADATA, STATUS, 0.0)
    events = drive(store, chosen(base))
    store.stop(0)
    assert [e.state for e in events] == ["published"] * 2
    assert all(abs(s.path.stat().st_mtime - time.time()) < 30 for s in list_snapshots(tmp_path))
    assert len(list_snapshots(tmp_path)) == 3
