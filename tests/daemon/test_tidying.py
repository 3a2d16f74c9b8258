"""Retention in the daemon: by the clock, in a process of its own, a line for each drop, and nothing half gone after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smart_monitor.daemon import tidying
from smart_monitor.daemon.tidying import Calendar, has_something
from smart_monitor.snapshots.pins import pin
from smart_monitor.snapshots.verify import verify
from tests.daemon.watching import Monitor, Trainer
from tests.faults.store_drivers import alive, children, kill
from tests.snapshots.made import DAY, made
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)
OFTEN = {"SMART_MONITOR_PRUNE_HOURS": "0.0002", "SMART_MONITOR_KEEP_LAST": "1"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    Trainer(tmp_path).train(1)
    for days in (60, 50, 40, 31):
        made(tmp_path, at=time.time() - days * DAY, step=100 - days)
    return tmp_path


def names(run: Path) -> list[str]:
    return sorted(n for n in os.listdir(run / "snapshots"))


def log(run: Path) -> str:
    return "".join(p.read_text() for p in (run / "logs").glob("smart_monitor_*.log"))


def test_what_the_rules_do_not_keep_goes_by_itself_and_each_drop_has_its_line(run: Path) -> None:
    before = names(run)
    pin(run, before[:1])
    os.rename(run / "snapshots" / before[1], run / "snapshots" / f".trash-0123456789abcdef-{before[1]}")
    with Monitor(run, settings=OFTEN) as monitor:
        until(lambda: names(run) == [before[0], before[3]], "retention")
        until(lambda: before[2] in log(run), "the line")
        rule = "older than 30 days and not among the last 1 of nan; 1"  # and some KiB
        assert f"[INFO] Retention: dropped {before[2]} ({rule}" in log(run)
        made(run, at=time.time() - 33 * DAY, name="anomaly_20200101_000000_nan")
        until(lambda: "dropped anomaly_20200101_000000_nan" in log(run), "the next round")
        assert 0 == monitor.stop()
    assert 2 == log(run).count("Retention: ")
    # What the process was at when the monitor ended, it ends by itself.
    until(lambda: not any(n.startswith(".trash-") for n in names(run)), "the last of it to be cleared away")
    assert all(verify(run / "snapshots" / n) == [] for n in names(run))


def test_a_clock_that_runs_ahead_makes_nothing_older_until_it_has_done_so_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, since_boot = 1e9, 500.0
    monkeypatch.setattr(tidying, "passed", lambda: since_boot)
    monkeypatch.setattr(time, "time", lambda: wall)
    calendar = Calendar()
    wall, since_boot = wall + 100 * DAY + 60, since_boot + 60
    assert 1e9 + 60 == calendar.now()
    since_boot += DAY / 2
    wall += DAY / 2
    assert 1e9 + 60 + DAY / 2 == calendar.now()
    wall -= 100 * DAY  # it is put right
    assert wall == calendar.now()
    wall += 100 * DAY
    assert wall - 100 * DAY == calendar.now()
    wall, since_boot = wall + DAY, since_boot + DAY  # and this time it stays
    assert wall == calendar.now()
    wall -= 1000 * DAY
    assert wall == calendar.now()


def test_the_process_drops_what_is_too_old_by_the_time_it_is_told(run: Path) -> None:
    before = names(run)
    job = {"out": str(run), "settings": {"keep_last": 1}, "parent": os.getpid(), "now": time.time() - 15 * DAY}
    subprocess.run([sys.executable, "-m", "smart_monitor.snapshots.prune"], input=json.dumps(job).encode(), check=True)
    assert before[2:] == names(run)


def test_where_nothing_was_ever_kept_no_process_is_started_for_it(tmp_path: Path) -> None:
    assert not has_something(tmp_path)
    made(tmp_path, at=time.time(), step=1)
    assert has_something(tmp_path / "snapshots")
    assert has_something(tmp_path / "away")  # whose process says what is wrong


def test_whoever_wants_to_do_it_by_hand_is_let(run: Path) -> None:
    before = names(run)
    with Monitor(run, settings=OFTEN | {"SMART_MONITOR_PRUNE": "false"}) as monitor:
        monitor.sees(1)
        monitor.goes_on(ticks=12)
        assert before == names(run)
        assert 0 == monitor.stop()


def test_pins_that_can_not_be_read_are_said_once_and_nothing_goes(run: Path) -> None:
    before = names(run)
    (run / ".smart_monitor").mkdir()
    (run / ".smart_monitor" / "pins.json").write_text("{")
    with Monitor(run, settings=OFTEN) as monitor:
        until(lambda: "pins.json can't be used" in log(run), "the complaint")
        monitor.goes_on(ticks=12)
        assert 0 == monitor.stop()
    assert before == names(run)
    assert 1 == log(run).count("[WARNING] Retention: nothing was pruned")


def test_a_disk_that_is_low_brings_it_forward(run: Path) -> None:
    before = names(run)
    often = {"SMART_MONITOR_KEEP_LAST": "1", "SMART_MONITOR_MIN_FREE_GB": "1000000"}
    with Monitor(run, settings=often):
        until(lambda: names(run) == before[3:], "retention")


@pytest.mark.slow
def test_while_much_is_unlinked_the_monitor_goes_on_and_what_a_kill_leaves_is_finished(run: Path) -> None:
    trainer = Trainer(run)
    many = {f"model/checkpoint-1/{n}": b"x" for n in range(2500)}  # at five thousandths of a second each
    big = made(run, at=time.time() - 70 * DAY, name="anomaly_20200101_000000_nan", files=many)
    with Monitor(run, settings=OFTEN) as monitor:
        until(lambda: not big.exists(), "the rename")
        [trash] = (run / "snapshots").glob(".trash-*20200101*")
        trainer.write(0.5, step=77)
        monitor.sees(77)
        assert trash.exists()
        for process in children(monitor.process.pid):
            kill(process)
        until(lambda: "Retention: its process died (status -9)" in log(run), "the complaint")
        [tidying] = until(lambda: children(monitor.process.pid), "the next round")
        monitor.kill()
        until(lambda: not alive(tidying), "the end of the process")
        monitor.start()
        until(lambda: 1 == len(names(run)), "the end of the trash", 200)
        assert 0 == monitor.stop()
