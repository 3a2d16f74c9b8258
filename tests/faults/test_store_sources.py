"""The trainer rotates, overwrites and deletes while the worker copies."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smart_monitor.snapshots.intents import Intent
from smart_monitor.snapshots.job import Choice
from smart_monitor.snapshots.store import Store, StoreEvent
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import hf_checkpoint, safetensors_bytes
from tests.snapshots.runs import METADATA, ROOMY, STATUS, Clock, chosen, complete, decision
from tests.waiting import PATIENCE

SIZE = 2_000_000
SLOW = dataclasses.replace(ROOMY, copy_rate_mb=3.0)
WEIGHTS = "model/checkpoint-500/model.safetensors"


def copying(base: Path) -> bool:
    """Has the worker begun to write the weights?"""
    return any(p.stat().st_size > 200_000 for p in (base / "snapshots").glob(f".partial-*/{WEIGHTS}"))


def keep(base: Path, choose: Callable[[Intent], Choice], mid_copy: Callable[[], None], times: int = 1) -> list[StoreEvent]:
    """Take one snapshot slowly and do something to its source in mid-copy, up to `times` times."""
    store, clock, events = Store(base, SLOW), Clock(200), list[StoreEvent]()
    store.begin(decision(), METADATA, STATUS, time.time())
    done: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while store.busy:
        assert time.monotonic() < deadline
        events += store.pump(clock(), choose)
        if len(done) < times and copying(base):
            [partial] = [p.name for p in (base / "snapshots").glob(".partial-*")]
            if partial not in done:
                done.add(partial)
                mid_copy()
        time.sleep(0.005)
    store.stop(1)
    assert len(done) == times, "nothing happened in mid-copy"
    return events


def document(base: Path, event: StoreEvent) -> dict[str, object]:
    assert verify(base / "snapshots" / event.name) == []
    found = json.loads((base / "snapshots" / event.name / "metadata.json").read_text())
    assert isinstance(found, dict)
    return found


def test_a_checkpoint_rotated_away_in_mid_copy_is_kept_all_the_same(tmp_path: Path) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500, size=SIZE)
    whole = {p.name: p.read_bytes() for p in path.iterdir()}
    events = keep(tmp_path, chosen(tmp_path), lambda: shutil.rmtree(path))
    assert [e.state for e in events] == ["published"]
    assert document(tmp_path, events[0])["missing"] == []
    kept = tmp_path / "snapshots" / events[0].name / "model" / "checkpoint-500"
    assert whole == {p.name: p.read_bytes() for p in kept.iterdir()}


@pytest.mark.parametrize("restored", [False, True], ids=["new time stamp", "old time stamp restored"])
def test_an_overwrite_of_the_same_size_in_mid_copy_is_noticed_and_the_new_state_is_taken(tmp_path: Path, restored: bool) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500, size=SIZE) / "model.safetensors"
    old = path.stat()
    new = safetensors_bytes(SIZE, b"\xee")
    assert len(new) == old.st_size

    def overwrite() -> None:
        with open(path, "r+b") as file:
            file.write(new)
        if restored:
            os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))

    events = keep(tmp_path, chosen(tmp_path), overwrite)
    assert path.stat().st_ino == old.st_ino
    assert [e.state for e in events] == ["published"]
    document(tmp_path, events[0])
    assert (tmp_path / "snapshots" / events[0].name / WEIGHTS).read_bytes() == new


def test_a_file_that_appears_in_mid_copy_means_that_the_writer_was_not_done(tmp_path: Path) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500, size=SIZE)
    events = keep(tmp_path, chosen(tmp_path), lambda: (path / "rng_state_1.pth").write_bytes(b"late"), 1)  # type: ignore[func-returns-value,arg-type]
    assert [e.state for e in events] == ["published"]
    assert f"{WEIGHTS.rpartition('/')[0]}/rng_state_1.pth" in {f["path"] for f in document(tmp_path, events[0])["files"]}  # type: ignore[attr-defined]


def test_a_source_that_never_stands_still_is_told_lost_and_everything_else_is_kept(tmp_path: Path) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500, size=SIZE) / "model.safetensors"
    (tmp_path / "current_model" / "adapter_model.safetensors").write_bytes(safetensors_bytes())
    events = keep(tmp_path, chosen(tmp_path), lambda: os.utime(path), times=5)
    assert [e.state for e in events] == ["lost", "published"]
    assert "model.safetensors was overwritten" in events[0].why
    found = document(tmp_path, events[1])
    assert {"what": "checkpoint", "why": events[0].why} in found["missing"]  # type: ignore[operator]
    kept = {f["path"] for f in found["files"]}  # type: ignore[attr-defined]
    assert kept == {"model/adapter_model.safetensors", "training_status.json"}


def test_a_checkpoint_gone_before_the_copy_is_replaced_by_the_next_choice(tmp_path: Path) -> None:
    older = hf_checkpoint(tmp_path / "current_model", 400)
    stale = hf_checkpoint(tmp_path / "current_model", 500)
    first = complete(tmp_path)
    choices = iter([Choice(checkpoint=first)])
    shutil.rmtree(stale)
    store, events = Store(tmp_path, ROOMY), list[StoreEvent]()
    store.begin(decision(), METADATA, STATUS, time.time())
    while store.busy:
        events += store.pump(time.time(), lambda i: next(choices, None) or chosen(tmp_path)(i))
        time.sleep(0.005)
    assert [e.state for e in events] == ["published"]
    assert document(tmp_path, events[0])["checkpoint"]["source"] == str(older)  # type: ignore[index]


def test_lost_is_told_when_nothing_is_left_to_choose(tmp_path: Path) -> None:
    path = hf_checkpoint(tmp_path / "current_model", 500)
    first = complete(tmp_path)
    choices = iter([Choice(checkpoint=first)])
    shutil.rmtree(path)
    store, events = Store(tmp_path, ROOMY), list[StoreEvent]()
    store.begin(decision(), METADATA, STATUS, time.time())
    while store.busy:
        events += store.pump(time.time(), lambda i: next(choices, None) or chosen(tmp_path)(i))
        time.sleep(0.005)
    assert [e.state for e in events] == ["lost", "published"]
    assert "vanished" in events[0].why


def test_a_file_swapped_for_a_link_or_another_file_before_the_copy_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for swap in ("link", "file", "fifo"):
        base = tmp_path / swap
        path = hf_checkpoint(base / "current_model", 500) / "model.safetensors"
        found = complete(base)
        secret.write_bytes(path.read_bytes())
        path.unlink()
        if swap == "link":
            path.symlink_to(secret)
        elif swap == "file":
            shutil.copy2(secret, path)
        else:
            os.mkfifo(path)
        store, events = Store(base, ROOMY), list[StoreEvent]()
        store.begin(decision(), METADATA, STATUS, time.time())
        clock = Clock(1000)
        while store.busy:
            events += store.pump(clock(), lambda _, found=found: Choice(checkpoint=found))  # type: ignore[misc]
            time.sleep(0.005)
        assert [e.state for e in events] == ["lost", "published"], swap
        assert not list((base / "snapshots").glob("*/model/*/model.safetensors"))
