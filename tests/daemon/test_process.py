"""The trainer's process: real children that are killed, stopped, replaced and that end well."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.process import look
from smart_monitor.daemon.trainer import Trainer as Tracker
from smart_monitor.daemon.vitals import read_vitals
from smart_monitor.model import HOST, RECORD, STATE, TICK, Record
from tests.command_line import command
from tests.daemon.watching import Monitor
from tests.waiting import until

WRITES = """
import json, os, pathlib, sys, time
base, word = pathlib.Path(sys.argv[1]), sys.argv[2]
path = base / "status" / "training_status.json"
path.parent.mkdir(parents=True, exist_ok=True)
(base / "current_model").mkdir(exist_ok=True)

def write(step, **more):
    new = path.with_name(f"{os.getpid()}.tmp")
    new.write_text(json.dumps({"current_step": step, "loss": 0.7, "status": "training", "pid": os.getpid()} | more))
    os.replace(new, path)

step = 0
while not (base / "end").exists():
    step += 1
    write(step)
    time.sleep(0.1)
if word:
    write(step, status=word)
"""


class Child:
    """A trainer that is a process of its own."""

    def __init__(self, base: Path, word: str = "") -> None:
        self.process = subprocess.Popen([sys.executable, "-c", WRITES, str(base), word])
        self.pid = self.process.pid

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        if child.process.poll() is None:
            child.end()


def word(base: Path) -> str:
    """How the trainer's process is, as `status` would say."""
    known = read_vitals(Place(base, None))
    return str(known["process"]["word"]) if known else ""


def test_a_trainer_that_is_killed_is_dead_and_its_heir_alive(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(tmp_path))
    with Monitor(tmp_path) as monitor:
        monitor.says(f"The trainer is process {children[0].pid}: told by what it writes")
        until(lambda: word(tmp_path) == "alive", "the word for it")
        children[0].end()
        until(lambda: "process_gone" in monitor.findings(), "the finding")
        [found] = [e for e in monitor.events("finding") if e["kind"] == "process_gone"]
        assert "critical" == found["severity"]
        assert f"process {children[0].pid} ended without saying that it completed" in found["message"]
        until(lambda: word(tmp_path) == "dead", "the word for it")
        said = command("status", "--base-dir", tmp_path)
        assert (1, True) == (said.returncode, "dead: process" in said.stdout)
        assert "dead: process" in command("doctor", "--base-dir", tmp_path).stdout
        children.append(Child(tmp_path))
        monitor.says(f"The trainer is process {children[1].pid}")
        until(lambda: word(tmp_path) == "alive", "the heir")
        assert ["process_gone"] == [k for k in monitor.findings() if k == "process_gone"]
        assert 0 == monitor.stop()
    assert monitor.told() == monitor.replayed()


def test_a_trainer_that_completed_has_finished(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(tmp_path, "completed"))
    with Monitor(tmp_path) as monitor:
        monitor.says(f"The trainer is process {children[0].pid}")
        (tmp_path / "end").touch()
        assert 0 == children[0].process.wait()
        monitor.says(f"The trainer's process {children[0].pid} has finished")
        until(lambda: word(tmp_path) == "finished", "the word for it")
        assert "process_gone" not in monitor.findings()
        assert 0 == command("status", "--base-dir", tmp_path).returncode


def test_a_trainer_that_is_stopped_is_silent_and_not_dead(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(tmp_path))
    with Monitor(tmp_path, settings={"SMART_MONITOR_STALL_AFTER": "2"}) as monitor:
        monitor.says(f"The trainer is process {children[0].pid}")
        until(lambda: len(monitor.having("Monitoring: Step")) >= 5, "its rhythm")
        os.kill(children[0].pid, signal.SIGSTOP)
        told = until(lambda: [e["message"] for e in monitor.events("finding") if "SIGSTOP" in e["message"]], "the stall")
        assert "silent, not dead" in told[0]
        until(lambda: word(tmp_path) == "silent", "the word for it")
        os.kill(children[0].pid, signal.SIGCONT)
        until(lambda: word(tmp_path) == "alive", "its going on")
        assert "process_gone" not in monitor.findings()


@pytest.mark.slow
def test_what_died_while_the_monitor_was_down_is_dead(tmp_path: Path, children: list[Child]) -> None:
    children.append(Child(tmp_path))
    with Monitor(tmp_path) as monitor:
        monitor.says(f"The trainer is process {children[0].pid}")
        assert 0 == monitor.stop()
        children[0].end()
        monitor.start()
        until(lambda: "process_gone" in monitor.findings(), "the finding")


def test_a_pid_that_names_nobody_here_is_unknown(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        path = tmp_path / "status" / "training_status.json"
        path.parent.mkdir()
        (tmp_path / "current_model").mkdir()
        nobody = subprocess.Popen(["true"])
        nobody.wait()
        path.write_text(json.dumps({"current_step": 1, "loss": 0.7, "status": "training", "pid": nobody.pid}))
        until(lambda: word(tmp_path) == "unknown", "the word")
        monitor.says(f"process {nobody.pid} can't be found here")
        assert [] == monitor.findings()


def test_the_process_is_found_by_the_files_it_holds_open(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as lines:
        lines.write("{}\n")
        lines.flush()
        holders = holding([str(path)])
        assert os.getpid() not in holders.values()  # we are not the trainer
        code = f"import time; f = open({str(path)!r}, 'a'); print('open', flush=True); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        reader = subprocess.Popen(["tail", "-f", str(path)], stdout=subprocess.DEVNULL)
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert {str(path): child.pid} == holding([str(path)])
        finally:
            for process in (child, reader):
                process.kill()
                process.wait()
            if child.stdout is not None:
                child.stdout.close()


def holding(paths: Sequence[str]) -> dict[str, int]:
    from smart_monitor.daemon.holders import Holders

    holders = Holders()
    until(lambda: (holders.attend(paths), holders.swept)[1], "a sweep")
    return {path: pid for path in paths if (pid := holders.of([path]))}


def tracker(path: Path, pid: int, seen: float | None = None) -> Tracker:
    """One that was told of `pid` by a file written now (or at `seen`)."""
    path.write_text("{}")
    if seen is not None:
        os.utime(path, (seen, seen))
    made = Tracker(Log())
    made.heed(Record("r", "status", 0, 1, seen=path.stat().st_mtime, values={"loss": 1.0}, ids={"pid": str(pid)}, kind=RECORD))
    made.survey([str(path)], None)
    return made


def tick(made: Tracker, word: str = "training") -> Record:
    return made.tick(Record("r", HOST, 0, seen=2e9, kind=TICK), word, None)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "600"], cwd=tmp_path)
    yield child
    child.kill()
    child.wait()


def test_a_process_younger_than_the_last_line_did_not_write_it(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    assert "unknown" == tick(tracker(tmp_path / "status", sleeper.pid, seen=1e9)).state
    assert "alive" == tick(tracker(tmp_path / "status", sleeper.pid)).state


def test_a_process_that_has_nothing_to_do_with_the_run_is_not_the_trainer(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    stranger = subprocess.Popen(["sleep", "600"], cwd=tmp_path / "elsewhere")
    try:
        assert "unknown" == tick(tracker(tmp_path / "run" / "status", stranger.pid)).state
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.slow
def test_a_trainer_in_another_container_is_unknown_and_its_end_no_death(tmp_path: Path) -> None:
    apart = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a namespace of processes needs unshare and the right to use it")
    with Monitor(tmp_path) as monitor:
        child = subprocess.Popen([*apart, sys.executable, "-c", WRITES, str(tmp_path), ""])
        try:
            monitor.says("The trainer's process 1 can't be found here")
            until(lambda: word(tmp_path) == "unknown", "the word for it")
        finally:
            child.kill()
            child.wait()
        before = len(monitor.journal())
        until(lambda: len(monitor.journal()) > before + 10, "ticks")
        assert [] == [k for k in monitor.findings() if k == "process_gone"]


def test_we_are_never_the_trainer(tmp_path: Path) -> None:
    assert "unknown" == tick(tracker(tmp_path / "status", os.getpid())).state


def test_a_pid_given_out_again_is_another_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    made = tracker(tmp_path / "status", sleeper.pid)
    tick(made)
    state = made.state()
    again = Tracker(Log())
    again.restore(state | {"started": state["started"] - 1, "said": None})
    tick(again)
    until(lambda: tick(again).state == "dead", "its being said to be gone")


def test_a_zombie_is_dead_and_how_it_ended_is_known(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    made = tracker(tmp_path / "status", sleeper.pid)
    assert "alive" == tick(made).state
    sleeper.kill()  # and nobody waits for it
    until(lambda: tick(made).state == "dead", "its being said to be dead")
    assert "it was killed by SIGKILL" == tick(made).note
    made.close()


def test_a_process_says_what_it_does(sleeper: subprocess.Popen[bytes]) -> None:
    # Its memory is looked at once it sleeps: between fork and exec it has none of its own.
    until(lambda: (seen := look(sleeper.pid)) is not None and seen.doing == "sleeping" and seen.rss > 0, "its sleeping")
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: (seen := look(sleeper.pid)) is not None and seen.doing == "stopped", "its being stopped")


def test_lines_that_come_after_the_last_word_do_not_take_it_back() -> None:
    made = Tracker(Log())
    made.heed(Record("r", "status", 0, seen=1e9, kind=STATE, state="completed"))
    assert made.is_late(Record("r", "jsonl", 1, 9, seen=1e9 + 5), began=False)
    assert not made.is_late(Record("r", "jsonl", 2, 0, seen=1e9 + 6), began=True)
    made.heed(Record("r", "status", 2, seen=1e9 + 10, kind=STATE, state="completed"))
    assert not made.is_late(Record("r", "jsonl", 3, 10, seen=1e9 + 500), began=False)


def test_state_that_is_none_is_as_good_as_nothing() -> None:
    for state in ({}, {"pid": "x"}, {"said": 3, "worded": True}, {"said": None, "worded": False, "pid": 1}):
        made = Tracker(Log())
        made.restore(state)
        assert made.process is None
