"""Equal files of snapshots share storage, with one another and with nobody else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.snapshots.copy import CLOCK_GRAIN, Copier
from smart_monitor.snapshots.groups import Taking
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.pins import pin
from smart_monitor.snapshots.publish import Partial
from smart_monitor.snapshots.retention import storage
from smart_monitor.snapshots.sharing import KNOWN, MOST_NAMES, Stock
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint, safetensors_bytes
from tests.snapshots.runs import snapshot

WEIGHTS = "model/checkpoint-500/model.safetensors"
SIZE = 300_000


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run whose checkpoint has stood long enough for its ctimes to tell its states apart."""
    hf_checkpoint(tmp_path / "current_model", 500, size=SIZE)
    time.sleep(2 * CLOCK_GRAIN)
    return tmp_path


@pytest.fixture
def weights(base: Path) -> Path:
    return base / "current_model" / "checkpoint-500" / "model.safetensors"


def how(path: Path, name: str = WEIGHTS) -> str:
    [found] = [f["how"] for f in json.loads((path / "metadata.json").read_text())["files"] if f["path"] == name]
    return str(found)


def theirs(base: Path) -> set[int]:
    return {p.stat().st_ino for p in (base / "current_model").rglob("*")}


def ours(base: Path) -> set[int]:
    return {p.stat().st_ino for p in (base / "snapshots").rglob("*") if p.is_file()}


def test_two_rules_on_one_checkpoint_share_its_storage_and_both_are_whole(base: Path) -> None:
    before = fingerprint(base / "current_model")
    first, second = snapshot(base, base, "one"), snapshot(base, base, "two", "nan")
    assert (how(first), how(second)) == ("copy", "shared")
    assert (first / WEIGHTS).samefile(second / WEIGHTS)
    assert stat.S_IMODE((second / WEIGHTS).stat().st_mode) == 0o444
    assert [verify(first), verify(second)] == [[], []]
    assert not (first / "training_status.json").samefile(second / "training_status.json")
    assert fingerprint(base / "current_model") == before
    assert not theirs(base) & ours(base)


def test_a_snapshot_keeps_its_save_time_while_others_share_its_files_and_go(base: Path) -> None:
    first = snapshot(base, base, "one")
    saved = {p: p.stat().st_mtime_ns for p in [first, *first.rglob("*")]}
    shutil.rmtree(snapshot(base, base, "two", "nan"))
    snapshot(base, base, "three", "divergence")
    pin(base, [first.name])
    assert verify(first) == []
    assert saved == {p: p.stat().st_mtime_ns for p in [first, *first.rglob("*")]}


def test_either_of_two_that_share_may_be_deleted_and_the_other_stays_whole(base: Path) -> None:
    first, second = snapshot(base, base, "one"), snapshot(base, base, "two", "nan")
    shutil.rmtree(first)
    assert verify(second) == []
    third = snapshot(base, base, "three", "divergence")
    assert (third / WEIGHTS).samefile(second / WEIGHTS)
    shutil.rmtree(second)
    assert verify(third) == []


@contextmanager
def taking(base: Path) -> Iterator[tuple[Taking, Stock, Partial, list[int]]]:
    """The inside of a worker: what it takes, and the bytes that it reads meanwhile."""
    temporary = base / "snapshots" / ".partial"
    temporary.mkdir(parents=True)
    (base / ".smart_monitor").mkdir(exist_ok=True)
    snapshots, fd = os.open(base / "snapshots", os.O_RDONLY), os.open(temporary, os.O_RDONLY)
    partial, amounts = Partial(fd), list[int]()
    stock = Stock(snapshots, str(base / ".smart_monitor"), partial)
    with Copier(Pace(0, amounts.append)) as copier:
        yield Taking(partial, copier, stock), stock, partial, amounts
    os.close(snapshots)
    os.close(fd)
    shutil.rmtree(temporary)


def group(folder: Path, below: str = "model", *, required: bool = True) -> dict[str, Any]:
    infos = {p: p.stat() for p in sorted(folder.iterdir())}
    files = [[p.name, f"{below}/{p.name}", i.st_size, i.st_dev, i.st_ino, i.st_mtime_ns] for p, i in infos.items()]
    return {"root": str(folder), "below": below, "required": required, "exact": True, "held": True, "files": files, "ignored": []}


def test_only_what_is_held_is_read_at_leisure(base: Path, weights: Path) -> None:
    (weights.parent / "beside").mkdir()
    beside = weights.parent / "beside" / "adapter_model.safetensors"
    beside.write_bytes(safetensors_bytes(SIZE, b"\xcc"))
    hurried: list[bool] = []
    with taking(base) as (taker, _, _, _):
        pace = taker._copier.pace
        pace._alive = lambda _: hurried.append(pace.hurry)
        taker.take([group(beside.parent) | {"held": False}, group(beside.parent, "held")], lambda _: None)
        assert not pace.hurry
    assert hurried == sorted(hurried, reverse=True)
    assert {True, False} == set(hurried)


@pytest.mark.parametrize("alike", [False, True], ids=["of one length", "of one content"])
def test_each_of_hundreds_of_files_is_looked_at_a_few_times_and_not_as_often_as_there_are_files(
    base: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    folder = weights.parent / "many"
    folder.mkdir()
    for k in range(300):
        (folder / f"{k}").write_bytes(b"%06d" % (0 if alike else k))
    opened, real = 0, os.open

    def count(*arguments: Any, **more: Any) -> int:
        nonlocal opened
        opened += 1
        return real(*arguments, **more)

    with taking(base) as (taker, _, partial, _):
        monkeypatch.setattr(os, "open", count)
        taker.take([group(folder)], lambda _: None)
        monkeypatch.undo()
        assert 300 == len(partial.files)
        names = [(base / "snapshots" / ".partial" / f["path"]).stat().st_nlink for f in partial.files]
    assert max(names) <= (MOST_NAMES + 1 if alike else 1)
    assert opened < 300 * (3 * MOST_NAMES if alike else 12)


def test_a_state_that_may_yet_change_under_the_same_time_stamp_is_not_remembered(base: Path, weights: Path) -> None:
    with taking(base) as (_, stock, _, _):
        for age, learned in ((0.0, 0), (2 * CLOCK_GRAIN, 1)):
            weights.chmod(0o600 if age else 0o644)
            time.sleep(age)
            fd = os.open(weights, os.O_RDONLY)
            stock.learn(fd, os.fstat(fd), "w", SIZE, "sha")
            os.close(fd)
            assert learned == len(stock._learned)


def weigh(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir())


@pytest.mark.parametrize("touched", [False, True], ids=["the source is as it was", "the source got another name"])
def test_bytes_are_written_never_and_read_as_little_as_can_be_proven_enough(base: Path, weights: Path, touched: bool) -> None:
    snapshot(base, base, "one")
    if touched:  # as a hold does: the ctime is another, and only reading tells whether the content is the same
        for path in weights.parent.iterdir():
            os.link(path, base / f"hold-{path.name}")
    needed: list[int] = []
    with taking(base) as (take, _, partial, amounts):
        take.take([group(weights.parent)], needed.append)
    assert {f["how"] for f in partial.files} == {"shared"}
    assert needed == [0]
    assert sum(amounts) == weigh(weights.parent) * (2 if touched else 1)


def test_a_file_of_the_same_length_and_another_content_is_copied(base: Path) -> None:
    first = snapshot(base, base, "one")
    hf_checkpoint(base / "current_model", 600, size=SIZE)
    second = snapshot(base, base, "two", "nan")
    name = WEIGHTS.replace("500", "600")
    assert (second / name).stat().st_size == (first / WEIGHTS).stat().st_size
    assert (how(second, name), how(second, name.replace("model.safetensors", "config.json"))) == ("copy", "shared")
    assert (second / name).read_bytes() == (base / "current_model" / "checkpoint-600" / "model.safetensors").read_bytes()
    assert [verify(first), verify(second)] == [[], []]


@pytest.mark.parametrize("at", [0, SIZE - 6000, SIZE - 1], ids=["first", "between samples", "last"])
def test_an_overwrite_with_its_old_time_restored_is_a_new_content_even_where_the_samples_do_not_show_it(
    base: Path, weights: Path, at: int
) -> None:
    first = snapshot(base, base, "one")
    old = weights.stat()
    with open(weights, "r+b") as file:
        file.seek(old.st_size - SIZE + at)
        file.write(b"\xee")
    os.utime(weights, ns=(old.st_atime_ns, old.st_mtime_ns))
    second = snapshot(base, base, "two", "nan")
    assert how(second) == "copy"
    assert (second / WEIGHTS).read_bytes() == weights.read_bytes() != (first / WEIGHTS).read_bytes()
    assert [verify(first), verify(second)] == [[], []]


def test_a_trainers_file_that_is_a_link_of_a_published_one_is_copied_and_keeps_its_mode(base: Path, weights: Path) -> None:
    first = snapshot(base, base, "one")
    weights.unlink()
    os.link(first / WEIGHTS, weights)  # as after `cp -al` out of a snapshot
    before = fingerprint(base / "current_model")
    second = snapshot(base, base, "two", "nan")
    assert how(second) == "copy"
    assert not (second / WEIGHTS).samefile(weights)
    assert fingerprint(base / "current_model") == before
    assert verify(second) == []


def test_a_published_file_with_a_name_somewhere_else_is_not_shared_and_its_copy_is(base: Path) -> None:
    first = snapshot(base, base, "one")
    os.link(first / WEIGHTS, base / "somewhere_else")
    second, third = snapshot(base, base, "two", "nan"), snapshot(base, base, "three", "divergence")
    assert [how(first), how(second), how(third)] == ["copy", "copy", "shared"]
    assert (third / WEIGHTS).samefile(second / WEIGHTS)
    assert stat.S_IMODE((base / "somewhere_else").stat().st_mode) == 0o600


def test_a_damaged_file_is_not_shared_but_told_and_the_source_is_copied(base: Path, weights: Path) -> None:
    first = snapshot(base, base, "one")
    with open(first / WEIGHTS, "r+b") as file:
        file.seek(777)
        file.write(b"\xee")
    with taking(base) as (take, stock, partial, _):
        take.take([group(weights.parent)], lambda _: None)
        copied = (base / "snapshots" / ".partial" / "model" / "model.safetensors").read_bytes()
    assert [f["how"] for f in partial.files if f["path"] == "model/model.safetensors"] == ["copy"]
    assert copied == weights.read_bytes()
    assert stock.damaged == [f"{first.name}/{WEIGHTS}"]


def test_an_edit_of_a_shared_file_is_named_in_every_snapshot_that_shares_it(base: Path) -> None:
    first, second = snapshot(base, base, "one"), snapshot(base, base, "two", "nan")
    os.chmod(first / WEIGHTS, 0o644)
    with open(first / WEIGHTS, "r+b") as file:
        file.write(b"edited")
    problems = [*verify(first), *verify(second)]
    assert [p.path for p in problems] == [WEIGHTS, WEIGHTS]
    assert all(p.what.endswith("; 1 more name share its storage") for p in problems), problems


def test_a_link_in_place_of_a_snapshots_directory_is_not_followed(base: Path, weights: Path) -> None:
    first = snapshot(base, base, "one")
    shutil.rmtree(first / "model" / "checkpoint-500")
    (first / "model" / "checkpoint-500").symlink_to(weights.parent)
    second = snapshot(base, base, "two", "nan")
    assert how(second) == "copy"
    assert not theirs(base) & {p.stat().st_ino for p in second.rglob("*")}


def test_equal_files_of_one_snapshot_are_stored_once(base: Path, weights: Path) -> None:
    other = hf_checkpoint(base / "current_model", 400, size=SIZE)
    with taking(base) as (take, _, partial, _):
        take.take([group(weights.parent, "model/checkpoint-500"), group(other, "last_good/checkpoint-400")], lambda _: None)
        root = base / "snapshots" / ".partial"
        assert (root / "last_good/checkpoint-400/config.json").samefile(root / "model/checkpoint-500/config.json")
        assert (root / "last_good/checkpoint-400/model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        for file in partial.files:
            assert hashlib.sha256((root / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    ways = {f["path"]: f["how"] for f in partial.files}
    assert ways["last_good/checkpoint-400/config.json"] == "shared"
    assert ways["last_good/checkpoint-400/model.safetensors"] == "copy"


def test_a_file_that_is_thrice_in_one_snapshot_is_shared_again_in_the_next(base: Path) -> None:
    folder = base / "current_model" / "checkpoint-500"
    for name in ("a.bin", "b.bin", "c.bin"):
        (folder / name).write_bytes(b"the same" * 1000)
    first, second = snapshot(base, base, "one"), snapshot(base, base, "two", "nan")
    inodes = {(p / "model" / "checkpoint-500" / n).stat().st_ino for p in (first, second) for n in ("a.bin", "b.bin", "c.bin")}
    assert len(inodes) == 1
    assert [verify(first), verify(second)] == [[], []]


def test_sharing_goes_on_while_snapshots_are_deleted_and_all_that_stand_are_whole(base: Path) -> None:
    done = threading.Event()

    def delete() -> None:
        while not done.is_set():
            for found in list_snapshots(base)[:-1]:
                trash = found.path.with_name(f".trash-{found.name}")
                found.path.rename(trash)
                shutil.rmtree(trash)
            time.sleep(0.002)  # the copying has a processor to itself as often as not

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        ways = []
        for number in range(12):
            path = snapshot(base, base, f"n{number}", f"nan_{number}")
            ways.append(how(path))
            assert verify(path) == []
    finally:
        done.set()
        thread.join()
    assert "shared" in ways


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "files": 3}', b'{"schema": 1, "files": {"a": ["../../x", 1, "b"]}}'],
)
def test_a_memory_of_nonsense_costs_a_reading_and_nothing_else(base: Path, content: bytes) -> None:
    first = snapshot(base, base, "one")
    (base / ".smart_monitor" / KNOWN).write_bytes(content)
    second = snapshot(base, base, "two", "nan")
    assert how(second) == "shared"
    assert [verify(first), verify(second)] == [[], []]


def test_a_memory_that_contradicts_the_snapshots_is_not_believed(base: Path, weights: Path) -> None:
    first = snapshot(base, base, "one")
    path = base / ".smart_monitor" / KNOWN
    document = json.loads(path.read_text())
    wrong = hashlib.sha256((first / "model/checkpoint-500/config.json").read_bytes()).hexdigest()
    for entry in document["files"].values():
        entry[2] = wrong
    path.write_text(json.dumps(document))
    second = snapshot(base, base, "two", "nan")
    assert (second / WEIGHTS).read_bytes() == weights.read_bytes()
    assert verify(second) == []


def test_shared_storage_is_counted_once(base: Path) -> None:
    first, second = snapshot(base, base, "one"), snapshot(base, base, "two", "nan")
    listed = list_snapshots(base)
    assert listed[0].bytes == listed[1].bytes
    assert storage(listed) == storage(listed[:1]) + (second / "training_status.json").stat().st_size
    shutil.rmtree(first)
    [left] = list_snapshots(base)
    assert storage([left]) == left.bytes


def test_a_source_that_changes_while_it_is_examined_is_not_taken_for_its_twin(base: Path, weights: Path) -> None:
    """The last byte is overwritten by the very first progress, before the digest is complete."""
    snapshot(base, base, "one")
    os.link(weights, base / "hold")  # so that it must be read
    wanted = group(weights.parent, required=False)
    content = safetensors_bytes(SIZE, b"\xdd")

    def overwrite(_: int) -> None:
        weights.write_bytes(content)

    (base / "snapshots" / ".partial").mkdir()
    snapshots, fd = os.open(base / "snapshots", os.O_RDONLY), os.open(base / "snapshots" / ".partial", os.O_RDONLY)
    partial = Partial(fd)
    with Copier(Pace(SIZE, overwrite)) as copier:
        Taking(partial, copier, Stock(snapshots, str(base / ".smart_monitor"), partial)).take([wanted], lambda _: None)
    os.close(snapshots)
    os.close(fd)
    assert "model/model.safetensors" not in {f["path"] for f in partial.files}
    assert {m["path"]: m["why"] for m in partial.missing}["model/model.safetensors"] == "model.safetensors was overwritten"
