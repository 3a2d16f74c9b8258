"""Files of several ranks beside a real monitor: named when one stops, one incident when all say the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from smart_monitor.daemon.process import Handle
from tests.command_line import command, process
from tests.daemon.watching import Monitor
from tests.waiting import until

QUICK = {"SMART_MONITOR_RANK_LAG_AFTER": "1"}
HOLDS = "import sys, time; files = [open(p, 'a') for p in sys.argv[1:]]; print('open', flush=True); time.sleep(600)"


class Ranks:
    """Ranks that append to files of their own."""

    def __init__(self, base: Path, count: int) -> None:
        self.paths = [base / f"metrics_rank_{rank}.jsonl" for rank in range(count)]
        self.step = 0

    def train(self, *ranks: int, loss: float = 0.7, steps: int = 1) -> None:
        for _ in range(steps):
            self.step += 1
            for rank in ranks or range(len(self.paths)):
                with self.paths[rank].open("a") as lines:
                    lines.write(json.dumps({"step": self.step, "loss": loss + 0.001 * (self.step % 3)}) + "\n")


def trains(ranks: Ranks, monitor: Monitor, *which: int, steps: int = 30, loss: float = 0.7) -> None:
    """Train and wait each time until that was seen, so that every step is an arrival of its own."""
    for _ in range(steps):
        ranks.train(*which, loss=loss)
        monitor.sees(ranks.step)


def test_a_rank_that_stops_is_named_and_the_journal_says_the_same(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 3)
    ranks.train(steps=3)
    with Monitor(tmp_path, settings=QUICK) as monitor:
        monitor.says("Caught up")
        trains(ranks, monitor, steps=6)
        stood = ranks.step
        until(lambda: trains(ranks, monitor, 0, 2, steps=1) or "rank_lag" in monitor.findings(), "the finding")
        [found] = [e for e in monitor.events("finding") if e["kind"] == "rank_lag"]
        assert 1 == found["rank"]
        assert f"rank 1 stopped at step {stood}" in found["message"]
        [opened] = monitor.events("incident")
        assert opened["message"].startswith(f"rank_lag: {found['message']}")
        assert 0 == monitor.stop()
    assert monitor.told() == command("replay", tmp_path, "--format", "jsonl", settings=QUICK).stdout


def test_what_all_ranks_say_is_one_incident_one_alert_and_one_snapshot(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 4)
    ranks.train(steps=3)
    with Monitor(tmp_path) as monitor:
        monitor.says("Caught up")
        trains(ranks, monitor, steps=3)
        ranks.train(loss=float("nan"))
        until(lambda: len([k for k in monitor.findings() if k == "nan"]) == 4, "four findings")
        until(monitor.snapshots, "the snapshot")
        until(lambda: any("ranks 0–3" in e["message"] for e in monitor.events("incident")), "all of them in one incident")
        assert 1 == len([e for e in monitor.events("incident") if e["state"] == "opened"])
        assert 1 == len([line for line in monitor.alerts() if "nan (critical)" in line])
        assert 0 == monitor.stop()
        assert 1 == len(monitor.snapshots())


@pytest.mark.parametrize("written", ["an hour ago", "just now"])
def test_once_names_a_rank_that_stopped_where_nobody_writes_any_more(tmp_path: Path, written: str) -> None:
    ranks = Ranks(tmp_path, 3)
    ranks.train(steps=20)
    ranks.train(0, 2, steps=40)
    if written == "an hour ago":  # else one file may only have been flushed later than the others
        for path in ranks.paths:
            os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    assert 0 == process("watch", "--once", "--base-dir", tmp_path).returncode
    found = [e for e in Monitor(tmp_path).events("finding") if e["kind"] == "rank_lag"]
    assert ([1] if written == "an hour ago" else []) == [e["rank"] for e in found]
    assert [json.dumps(e) for e in found] == command("replay", tmp_path, "--format", "jsonl").stdout.splitlines()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the files of two ranks open."""
    yield from held([tmp_path / "metrics_rank_0.jsonl", tmp_path / "metrics_rank_1.jsonl"])


def held(paths: Sequence[Path]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", HOLDS, *map(str, paths)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_trainer_that_names_no_pid_is_found_by_its_files_and_missed_when_killed(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    ranks = Ranks(tmp_path, 2)
    ranks.train(steps=3)
    with Monitor(tmp_path) as monitor:
        monitor.says(f"The trainer is process {holder.pid}: holds the run's files open")
        os.kill(holder.pid, signal.SIGKILL)
        until(lambda: "process_gone" in monitor.findings(), "the finding")
        [found] = [e for e in monitor.events("finding") if e["kind"] == "process_gone"]
        assert "SIGKILL" in found["message"]
        assert "critical" == found["severity"]


APPENDS = """
import json, pathlib, sys, time
base = pathlib.Path(sys.argv[1])
with open(base / "metrics.jsonl", "a", buffering=1) as lines:
    step = 0
    while not (base / "end").exists():
        step += 1
        lines.write(json.dumps({"step": step, "loss": 0.7}) + "\\n")
        time.sleep(0.1)
"""


def test_a_trainer_without_words_that_exits_well_has_finished_and_the_monitor_ends_with_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", APPENDS, str(tmp_path)])
    known = Handle(child.pid)
    try:
        with Monitor(tmp_path, arguments=("--exit-when-done",)) as monitor:
            monitor.says(f"The trainer is process {child.pid}")
            (tmp_path / "end").touch()
            assert 0 == child.wait()
            if known.code() is None:
                pytest.skip("this kernel tells nobody but the parent how a process ended (Linux 6.15 does)")
            monitor.says(f"The trainer's process {child.pid} has finished: it exited with code 0")
            assert 0 == monitor.wait()
            assert "process_gone" not in monitor.findings()
    finally:
        known.close()
        child.kill()
        child.wait()
