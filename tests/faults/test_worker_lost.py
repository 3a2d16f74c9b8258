"""The copying process is killed or stands still: a finding, and a copy all the same."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest

from smart_monitor.cli.status import progress
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.store import Store, StoreEvent
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import hf_checkpoint
from tests.command_line import command, status
from tests.daemon.watching import Monitor, Trainer
from tests.faults.store_drivers import kill
from tests.snapshots.runs import METADATA, ROOMY, STATUS, Clock, chosen, decision
from tests.waiting import PATIENCE, until


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["it stands still", "it is killed"])
def test_a_worker_that_is_no_use_is_told_once_and_the_copy_is_made_by_another(tmp_path: Path, number: signal.Signals) -> None:
    hf_checkpoint(tmp_path / "current_model", 500, size=1_000_000)
    store, clock = Store(tmp_path, dataclasses.replace(ROOMY, copy_rate_mb=2)), Clock(500)
    events, struck = list[StoreEvent](), set[int]()
    store.begin(decision(), METADATA, STATUS, clock())
    deadline = time.monotonic() + PATIENCE
    while store.busy:
        assert time.monotonic() < deadline
        events += store.pump(clock(), chosen(tmp_path))
        under_way = store.progress
        if under_way and under_way["phase"] == "copying" and len(struck | {under_way["pid"]}) <= 2:
            struck.add(under_way["pid"])
            os.kill(under_way["pid"], number)
        if number == signal.SIGSTOP and store._worker is not None and store._worker.pid in struck:
            store._worker._heard -= 10.0  # the minutes that nobody hears of it need not be sat out
        time.sleep(0.005)
    store.stop(1)
    assert len(struck) == 2
    assert [e.state for e in events] == ["failed", "published"]
    assert ("has not moved for 120 s" if number == signal.SIGSTOP else "killed by SIGKILL") in events[0].why
    assert verify(tmp_path / "snapshots" / events[-1].name) == []
    assert [n for n in os.listdir(tmp_path / "snapshots") if n.startswith(".")] == []


def test_a_copy_that_waits_for_its_rate_says_every_second_that_it_lives() -> None:
    heard: list[int] = []
    Pace(20_000, heard.append).spent(25_000)
    assert heard[0] == 25_000
    assert len(heard) >= 2
    assert not any(heard[1:])


def test_status_shows_how_far_a_copy_is_and_a_killed_worker_is_a_finding(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(100, size=1_500_000)
    time.sleep(1.2)
    trainer.train(5)
    with Monitor(tmp_path, settings={"SMART_MONITOR_COPY_RATE_MB": "1"}) as monitor:
        monitor.sees(5)
        trainer.write(float("nan"))
        copy = until(lambda: (status(tmp_path)[1].get("vitals") or {}).get("copy"), "the copy in the status")
        until(lambda: "of 1.4 MiB" in command("status", "--base-dir", tmp_path).stdout, "its progress in the status")
        assert copy["name"].startswith("anomaly_")
        kill(copy["pid"])
        assert "the copying process died (killed by SIGKILL); the copy is tried again" in monitor.says("failed")
        until(lambda: "snapshot_failed" in monitor.findings(), "the finding")
        until(lambda: monitor.having("Snapshot saved"), "the snapshot")
        until(lambda: status(tmp_path)[1]["vitals"]["copy"] is None, "no copy in the status")
    [name] = monitor.snapshots()
    assert verify(tmp_path / "snapshots" / name) == []


def test_progress_is_a_line_for_a_person() -> None:
    copy = {
        "name": "anomaly_x", "phase": "copying", "bytes": 2**30, "total": 3 * 2**30, "rate": 410 * 2**20, "since": 88.0,
        "hung": False, "pid": 7,
    }  # fmt: skip
    assert progress(copy, 100.0) == "anomaly_x: 1.0 GiB of 3.0 GiB, 410.0 MiB/s, begun 12 seconds ago"
    assert progress({**copy, "total": 0}, 100.0) == "anomaly_x, begun 12 seconds ago"
    assert "(pid 7) does not move" in progress({**copy, "hung": True}, 100.0)
