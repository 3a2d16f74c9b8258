"""The status file as trainers write it: what becomes a record, what a state, what a sign of life."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Pass
from smart_monitor.sources.status_json import StatusFile
from tests.waiting import PATIENCE

TRAINING = {"status": "training", "current_step": 10, "total_steps": 100, "loss": 0.5, "timestamp": "2025-11-12T14:30:22"}
LATER = 1e9
"""A wall clock far from any file's time, so that no read counts as racy."""


class Desk:
    """One run, a source on it and its cursor, which goes through JSON between any two looks."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "status" / "training_status.json"
        self.path.parent.mkdir(exist_ok=True)
        self.cursor: Cursor = {}

    def write(self, content: object, path: Path | None = None) -> None:
        """Replace the file atomically."""
        path = path or self.path
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)

    def look(self, wall: float = LATER) -> Pass:
        seen = StatusFile(self.base, "run").read(self.cursor, wall, time.monotonic())
        self.cursor = json.loads(json.dumps(seen.cursor))
        return seen

    def records(self, content: object) -> list[Record]:
        self.write(content)
        return self.look().records


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_status_becomes_one_record_with_the_bytes_it_came_from(desk: Desk) -> None:
    desk.write(TRAINING)
    seen = desk.look(wall=1234.5)
    (record,) = seen.records
    assert ("run", "status", 10, "step", 100, {"loss": 0.5}) == (
        record.run, record.source, record.step, record.by, record.total, record.values,
    )  # fmt: skip
    assert ("record", "training", 1234.5, -1, False) == (record.kind, record.state, record.seen, record.index, record.historical)
    assert {0: json.dumps(TRAINING).encode()} == seen.raws
    assert (True, "", str(desk.path)) == (seen.sight.ok, seen.sight.why, seen.sight.path)


def test_a_nan_as_print_writes_it_is_seen_at_once_and_not_taken_for_half_a_file(desk: Desk) -> None:
    (record,) = desk.records(b'{"step": 10, "loss": nan, "grad_norm": -inf}')
    assert math.isnan(record.values["loss"])
    assert -math.inf == record.values["grad_norm"]


def test_an_unchanged_file_says_nothing_also_after_a_restart(desk: Desk) -> None:
    assert 1 == len(desk.records(TRAINING))
    for _ in range(3):
        seen = desk.look()
        assert ([], False, None, True) == (seen.records, seen.heartbeat, seen.retry_in, seen.sight.ok)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "2025-11-12T14:30:23"},
        {"eta_seconds": 5},
        {"tokens_per_sec": 1e4, "gpu_util": 80},
        {"hardware": {"ram_gb": 3}},
        {"model_name": "other"},
        {},
    ],
)
def test_a_change_of_nothing_but_clocks_is_a_heartbeat(desk: Desk, change: dict[str, Any]) -> None:
    desk.records(TRAINING)
    desk.write({**TRAINING, **change})
    seen = desk.look()
    assert ([], True) == (seen.records, seen.heartbeat)
    assert not desk.look().heartbeat


@pytest.mark.parametrize(
    "change",
    [
        {"current_step": 11},
        {"loss": 0.51},
        {"loss": math.nan},
        {"loss": None},
        {"grad_norm": 3.0},
        {"epoch": 0.2},
        {"pid": 5},
        {"run_id": "b"},
        {"current_step": 3},
    ],
)
def test_a_change_of_step_or_metric_or_identity_is_a_record(desk: Desk, change: dict[str, Any]) -> None:
    desk.records(TRAINING)
    (record,) = desk.records({**TRAINING, **change})
    assert "record" == record.kind


def test_a_loss_that_stays_nan_is_one_record(desk: Desk) -> None:
    assert 1 == len(desk.records({**TRAINING, "loss": math.nan}))
    assert [] == desk.records({**TRAINING, "loss": math.nan, "timestamp": "2025-11-12T14:30:29"})


def test_a_crash_is_a_state_and_its_zeros_are_not_observations(desk: Desk) -> None:
    desk.records(TRAINING)
    crash = {"status": "crashed", "current_step": 0, "loss": 0.0, "error_message": "CUDA out of memory"}
    (record,) = desk.records(crash)
    assert ("state", "crashed", "CUDA out of memory", {}) == (record.kind, record.state, record.note, record.values)
    assert [] == desk.records({**crash, "timestamp": "2025-11-12T14:30:40"})


def test_training_again_after_a_pause_is_told_before_its_record(desk: Desk) -> None:
    desk.records(TRAINING)
    assert ["idle"] == [r.state for r in desk.records({**TRAINING, "status": "paused"})]
    resumed = desk.records({**TRAINING, "current_step": 11})
    assert [("state", "training"), ("record", "training")] == [(r.kind, r.state) for r in resumed]
    assert ["record"] == [r.kind for r in desk.records({**TRAINING, "current_step": 12})]


def test_a_completed_run_at_first_sight_is_one_state(desk: Desk) -> None:
    assert [("state", "completed")] == [(r.kind, r.state) for r in desk.records({**TRAINING, "status": "done", "loss": 0.0})]
    assert [] == desk.look().records


def test_another_process_in_the_same_state_is_told(desk: Desk) -> None:
    idle = {"status": "idle", "step": 0, "pid": 1}
    assert 1 == len(desk.records(idle))
    assert [{"pid": "2"}] == [r.ids for r in desk.records({**idle, "pid": 2})]


def test_the_file_in_status_wins_unless_the_other_is_newer(desk: Desk) -> None:
    other = desk.base / "training_status.json"
    desk.write({**TRAINING, "loss": 1.0})
    desk.write({**TRAINING, "loss": 2.0}, other)
    os.utime(desk.path, (1e9, 1e9))
    os.utime(other, (1e9, 1e9))
    assert [{"loss": 1.0}] == [r.values for r in desk.look().records]
    os.utime(other, (1e9 + 1, 1e9 + 1))
    assert [{"loss": 2.0}] == [r.values for r in desk.look().records]
    desk.path.unlink()
    desk.path.mkdir()
    assert str(other) == desk.look().sight.path


def test_a_status_file_that_is_named_is_the_only_one_read_also_before_it_is_there(desk: Desk) -> None:
    desk.write({**TRAINING, "loss": 2.0}, desk.base / "training_status.json")
    desk.base = desk.path
    assert not desk.look().sight.ok
    assert [{"loss": 1.0}] == [r.values for r in desk.records({**TRAINING, "loss": 1.0})]
    source = StatusFile(desk.path, "run")
    seen = source.read(desk.cursor, LATER, 0.0)
    assert source.unmoved(seen.cursor, 0.0)
    desk.write({**TRAINING, "loss": 1.5})
    assert not source.unmoved(seen.cursor, 0.0)


def test_a_link_is_followed_anew_each_time(desk: Desk, tmp_path: Path) -> None:
    for name, loss in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        desk.write({**TRAINING, "loss": loss}, tmp_path / name / "status.json")
    desk.path.symlink_to(tmp_path / "a" / "status.json")
    assert [1.0] == [r.values["loss"] for r in desk.look().records]
    desk.write({**TRAINING, "loss": 3.0}, tmp_path / "a" / "status.json")
    assert [3.0] == [r.values["loss"] for r in desk.look().records]
    desk.path.unlink()
    desk.path.symlink_to(tmp_path / "b" / "status.json")
    assert [2.0] == [r.values["loss"] for r in desk.look().records]


def test_a_directory_that_is_removed_and_made_again_is_seen_again(desk: Desk) -> None:
    desk.records(TRAINING)
    desk.path.unlink()
    desk.path.parent.rmdir()
    gone = desk.look()
    assert (False, f"There is no training_status.json in {desk.base} yet.") == (gone.sight.ok, gone.sight.why)
    desk.path.parent.mkdir()
    assert [11] == [r.step for r in desk.records({**TRAINING, "current_step": 11})]
    assert desk.look().sight.ok


def test_a_second_write_within_the_same_tick_of_the_clock_is_not_missed(desk: Desk) -> None:
    desk.path.write_text(json.dumps(TRAINING))
    stamp = desk.path.stat()
    assert 1 == len(desk.look(wall=stamp.st_mtime).records)
    again = desk.look(wall=stamp.st_mtime)
    assert ([], False) == (again.records, again.heartbeat)
    with desk.path.open("r+") as file:
        file.write(json.dumps({**TRAINING, "current_step": 11}))
    os.utime(desk.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert stamp.st_ino == desk.path.stat().st_ino
    assert [11] == [r.step for r in desk.look(wall=stamp.st_mtime + 0.5).records]
    quiet = desk.look(wall=stamp.st_mtime + 1)
    assert ([], False) == (quiet.records, quiet.heartbeat)


def test_a_file_renamed_into_place_is_read_once(desk: Desk) -> None:
    """Only a writer in place may write again within the tick; every look costs a daemon that runs for months."""
    for step in range(3):
        aside = desk.path.with_suffix(".tmp")
        aside.write_text(json.dumps({**TRAINING, "current_step": step}))
        wait_for_another_tick(aside)
        aside.replace(desk.path)
        stamp = desk.path.stat()
        assert [step] == [r.step for r in desk.look(wall=stamp.st_mtime).records]
        desk.path.write_text(json.dumps({**TRAINING, "current_step": step + 5}))  # told, if it were read
        os.utime(desk.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert [] == desk.look(wall=stamp.st_mtime + 0.5).records


def wait_for_another_tick(path: Path) -> None:
    """Until a change would be stamped later than the file's last one."""
    probe = path.with_suffix(".probe")
    while True:
        probe.write_text("")
        if probe.stat().st_mtime_ns > path.stat().st_mtime_ns:
            break
    probe.unlink()


def test_odd_steps_are_said_and_the_metrics_beside_them_kept(desk: Desk) -> None:
    for step in (-5, "many", 10**30):
        desk.cursor = {}
        desk.write({**TRAINING, "current_step": step})
        seen = desk.look()
        assert [(None, {"loss": 0.5})] == [(r.step, r.values) for r in seen.records]
        assert (1, True) == (seen.odd, seen.oddities[0].endswith("is not usable"))


def test_an_unchanged_file_costs_microseconds(desk: Desk) -> None:
    desk.records(TRAINING)
    source = StatusFile(desk.base, "run")
    best = math.inf
    for _ in range(20):
        start = time.process_time()
        for _ in range(200):
            source.read(desk.cursor, LATER, 1.0)
        best = min(best, (time.process_time() - start) / 200)
    assert best < 60e-6  # about 7 on an idle machine


WRITER = """
import json, os, sys, time
path, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for step in range(1, count + 1):
    text = json.dumps({"status": "training", "current_step": step, "loss": 1 / step, "pad": "x" * (step % 7) * 1000})
    if how == "atomic":
        with open(path + ".tmp", "w") as file:
            file.write(text)
        os.replace(path + ".tmp", path)
    else:
        with open(path, "w") as file:
            for start in range(0, len(text), 1500):
                file.write(text[start : start + 1500])
                file.flush()
    time.sleep(0.002)
"""


@pytest.mark.parametrize("how", ["atomic", "in place"])
def test_beside_a_real_writer_steps_only_rise_and_sight_is_never_lost(desk: Desk, how: str) -> None:
    desk.write(TRAINING | {"current_step": 0})
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(desk.path), how, "300"])
    steps: list[int] = []
    sights: set[bool] = set()
    try:
        while writer.poll() is None:
            seen = desk.look(wall=time.time())
            sights.add(seen.sight.ok)
            steps += [r.step for r in seen.records if r.step is not None]
    finally:
        writer.wait(PATIENCE)
    time.sleep(0.06)
    for _ in range(2):
        steps += [r.step for r in desk.look(wall=time.time()).records if r.step is not None]
    assert (300, {True}) == (steps[-1], sights)
    assert steps == sorted(set(steps))
    assert len(steps) > 20
