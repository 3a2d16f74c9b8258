"""Pruning real directories: the plan carried out, pins and promises honoured, nothing foreign touched."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.snapshots.intents import Intent, IntentBox
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.lock import store_lock
from smart_monitor.snapshots.pins import PinsUnusable, pin, pinned, unpin
from smart_monitor.snapshots.prune import look, prune
from smart_monitor.snapshots.remote.records import digest_of, record_of, set_target
from smart_monitor.snapshots.trash import dropped, empty, reading
from smart_monitor.snapshots.verify import verify
from tests.snapshots.made import DAY, NOW, made

LEAN = dataclasses.replace(Settings(), keep_last=1)


@pytest.fixture
def old(tmp_path: Path) -> list[Path]:
    """Three of one reason, all older than 30 days; the rules keep the newest of them."""
    return [made(tmp_path, at=NOW - days * DAY, step=int(days)) for days in (60, 50, 40)]


def names(out: Path) -> list[str]:
    return sorted(os.listdir(out / "snapshots"))


def test_what_no_rule_keeps_is_gone_and_written_down(tmp_path: Path, old: list[Path]) -> None:
    told = []
    done = prune(tmp_path, LEAN, NOW, told=lambda v: told.append(v.name))
    assert [p.name for p in old[:2]] == [v.name for v in done.dropped] == told
    assert [old[2].name] == names(tmp_path)
    assert [] == verify(old[2])
    assert [] == done.troubles
    rule = "older than 30 days and not among the last 1 of nan"
    assert [(p.name, rule, NOW) for p in old[:2]] == [(d["name"], d["rule"], d["time"]) for d in dropped(tmp_path, "anomaly_")]
    assert () == prune(tmp_path, LEAN, NOW).plan.drops


def test_a_look_changes_nothing(tmp_path: Path, old: list[Path]) -> None:
    before = names(tmp_path)
    assert 2 == len(look(tmp_path, LEAN, NOW).plan.drops)
    assert before == names(tmp_path)
    assert not (tmp_path / ".smart_monitor").exists()


def test_where_nothing_was_ever_kept_there_is_nothing_to_prune(tmp_path: Path) -> None:
    assert () == prune(tmp_path, LEAN, NOW).plan.verdicts
    assert [] == os.listdir(tmp_path)


def test_pins_stand_in_a_file_of_their_own_and_hold(tmp_path: Path, old: list[Path]) -> None:
    assert [old[0].name] == pin(tmp_path, [old[0].name])
    assert [] == pin(tmp_path, [old[0].name])
    prune(tmp_path, LEAN, NOW)
    assert [old[0].name, old[2].name] == names(tmp_path)
    assert [] == verify(old[0])
    assert [old[0].name] == unpin(tmp_path, [old[0].name])
    assert [] == unpin(tmp_path, [old[0].name])
    prune(tmp_path, LEAN, NOW)
    assert [old[2].name] == names(tmp_path)


def test_a_pin_of_one_deleted_by_hand_is_forgotten(tmp_path: Path, old: list[Path]) -> None:
    pin(tmp_path, [p.name for p in old])
    os.system(f"rm -rf {old[0]}")
    unpin(tmp_path, [old[1].name])
    assert {old[2].name} == pinned(tmp_path).keys()


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 2, "pins": {}}', '{"schema": 1, "pins": 3}', ""])
def test_while_nobody_knows_what_is_pinned_nothing_goes(tmp_path: Path, old: list[Path], content: str) -> None:
    (tmp_path / ".smart_monitor").mkdir()
    (tmp_path / ".smart_monitor" / "pins.json").write_text(content)
    for act in (look, prune):
        with pytest.raises(PinsUnusable, match=r"pins\.json can't be used"):
            act(tmp_path, LEAN, NOW)
    with pytest.raises(PinsUnusable):
        pin(tmp_path, [old[0].name])
    assert 3 == len(names(tmp_path))


def test_one_whose_promise_is_open_stays_or_it_would_be_made_anew(tmp_path: Path, old: list[Path]) -> None:
    identity = json.loads((old[0] / "metadata.json").read_text())["id"]
    box = IntentBox(tmp_path / ".smart_monitor" / "intents")
    box.save(Intent(identity, old[0].name, "nan", NOW, "20250101_000000"))
    prune(tmp_path, LEAN, NOW)
    assert [old[0].name, old[2].name] == names(tmp_path)


def test_one_that_waits_to_be_copied_to_the_remote_stays_but_not_for_ever(tmp_path: Path, old: list[Path]) -> None:
    set_target(tmp_path, "file:///elsewhere", 7)
    assert 3 == len(names(tmp_path))
    prune(tmp_path, LEAN, NOW)
    assert {"not yet copied to the remote", "newest verified"} == {v.rule for v in look(tmp_path, LEAN, NOW).plan.verdicts}
    for path in old:
        record_of(tmp_path, "file:///elsewhere", path.name, digest_of(path)).save()
    prune(tmp_path, LEAN, NOW + 9 * 365 * DAY)
    assert [old[2].name] == names(tmp_path)


def test_one_that_is_pinned_while_the_lock_is_waited_for_stays(
    tmp_path: Path, old: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def late(folder: str) -> Iterator[None]:
        pin(tmp_path, [old[0].name])
        with store_lock(folder):
            yield

    monkeypatch.setattr("smart_monitor.snapshots.prune.store_lock", late)
    assert [old[1].name] == [v.name for v in prune(tmp_path, LEAN, NOW).dropped]
    assert [old[0].name, old[2].name] == names(tmp_path)


def test_one_that_is_being_read_stays_this_time_and_the_others_go(tmp_path: Path, old: list[Path]) -> None:
    with reading(old[0]):
        done = prune(tmp_path, LEAN, NOW)
        assert [f"could not drop {old[0].name}: it is being read"] == done.troubles
        assert [old[0].name, old[2].name] == names(tmp_path)
        assert [] == verify(old[0])
    assert [] == prune(tmp_path, LEAN, NOW).troubles
    assert [old[2].name] == names(tmp_path)
    with pytest.raises(FileNotFoundError), reading(old[0]):
        pass


def test_nothing_foreign_is_dropped_swept_or_followed(tmp_path: Path, old: list[Path]) -> None:
    snapshots = tmp_path / "snapshots"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("")
    foreign = [
        ".trash-mine",
        ".trash-0123456789abcdef-notes",
        "notes",
        ".partial-x",
        "anomaly_by_hand",
        "anomaly_20200101_000000_x",
    ]
    for name in foreign:  # the last bears a snapshot's name and is none
        (snapshots / name).mkdir()
    (snapshots / ".trash-0123456789abcdef-anomaly_link").symlink_to(precious)
    (snapshots / "anomaly_20200101_000000_link").symlink_to(old[2])
    trash = snapshots / ".trash-0123456789abcdef-anomaly_20200101_000000_nan"
    trash.mkdir()
    (trash / "out").symlink_to(precious)
    (trash / "file").symlink_to(precious / "file")
    done = prune(tmp_path, LEAN, NOW)
    assert ["anomaly_20200101_000000_link", "anomaly_20200101_000000_x"] == done.damaged
    kept = {*foreign, ".trash-0123456789abcdef-anomaly_link", "anomaly_20200101_000000_link", old[2].name}
    assert kept == set(names(tmp_path))
    assert ["file"] == os.listdir(precious)


def test_what_a_crash_left_in_the_trash_goes_with_the_next_sweep(tmp_path: Path, old: list[Path]) -> None:
    (tmp_path / "snapshots" / f".trash-0123456789abcdef-{old[0].name}").mkdir()
    os.rename(old[0], tmp_path / "snapshots" / f".trash-0123456789abcde0-{old[0].name}")
    os.rename(old[1], tmp_path / "snapshots" / f".trash-0123456789abcde1-{old[1].name}")
    (tmp_path / "snapshots" / f".trash-0123456789abcde1-{old[1].name}" / "metadata.json").unlink()
    assert [] == prune(tmp_path, LEAN, NOW).dropped
    assert [old[2].name] == names(tmp_path)


def test_trash_that_somebody_else_empties_is_left_to_them(tmp_path: Path, old: list[Path]) -> None:
    trash = tmp_path / "snapshots" / f".trash-0123456789abcdef-{old[0].name}"
    os.rename(old[0], trash)
    theirs, snapshots = os.open(trash, os.O_RDONLY), os.open(trash.parent, os.O_RDONLY)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    assert [] == empty(snapshots)
    assert (trash / "metadata.json").exists()
    os.close(theirs)
    assert [] == empty(snapshots)
    assert not trash.exists()
    os.close(snapshots)


def test_shared_files_of_one_that_stays_are_intact_and_read_only_ones_go(tmp_path: Path, old: list[Path]) -> None:
    weights = old[2] / "model/checkpoint-40/model.safetensors"
    for path in old[:2]:
        [mine] = path.glob("model/*/model.safetensors")
        mine.unlink()
        os.link(weights, mine)
        document = json.loads((path / "metadata.json").read_text())
        assert weights.stat().st_size == document["files"][0]["bytes"]
    os.chmod(weights, 0o444)
    assert 3 == len(list_snapshots(tmp_path))
    prune(tmp_path, LEAN, NOW)
    assert [old[2].name] == names(tmp_path)
    assert [] == verify(old[2])
    assert 1 == weights.stat().st_nlink


def test_a_touched_newest_is_read_again_before_it_is_relied_on(tmp_path: Path) -> None:
    none = dataclasses.replace(LEAN, keep_last=0)
    sound, rotten = made(tmp_path, at=NOW - 60 * DAY), made(tmp_path, at=NOW - 50 * DAY)
    [weights] = rotten.glob("model/*/model.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content)  # the same again, as a copy would
    assert rotten.name == next(v.name for v in look(tmp_path, none, NOW).plan.verdicts if v.rule == "newest verified")
    weights.write_bytes(b"x" + content[1:])
    assert sound.name == next(v.name for v in look(tmp_path, none, NOW).plan.verdicts if v.rule == "newest verified")
    prune(tmp_path, none, NOW)
    assert [sound.name] == names(tmp_path)


def test_the_store_lock_is_held_for_the_renames_and_not_for_the_unlinking(tmp_path: Path, old: list[Path]) -> None:
    moments = []

    def alive() -> None:
        with store_lock(str(tmp_path / ".smart_monitor"), 0.0):
            moments.append(time.time())

    prune(tmp_path, LEAN, NOW, alive=alive)
    assert len(moments) >= 8
