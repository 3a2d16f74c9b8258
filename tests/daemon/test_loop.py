"""The main loop: a scheduler that died, a job that hangs, a run whose handling fails, clocks that jump."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.config import Settings
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.lane import Lane, Manner
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.loop import Daemon
from smart_monitor.daemon.outlook import HUNG, OFTEN, Outlook
from smart_monitor.daemon.place import Place, find_out
from smart_monitor.daemon.pool import Pool
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.vitals import read_vitals
from smart_monitor.journal import Journal
from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.status_json import StatusFile
from tests.daemon.watching import Trainer, serve
from tests.waiting import PATIENCE, until


@pytest.fixture
def log() -> tuple[Log, list[str]]:
    said: list[str] = []
    made = Log(None)
    made.say = lambda level, message: said.append(f"{level} {message}")  # type: ignore[method-assign]
    return made, said


def test_a_scheduler_that_died_is_noticed_and_is_started_anew(tmp_path: Path) -> None:
    daemon = Daemon([tmp_path], lambda _: Settings(), settings=Settings(poll_interval=0.1))
    schedule = Schedule(daemon._host_job, 0.1)
    schedule.close()
    daemon._ticked -= 100
    daemon._watch_schedule(schedule)
    until(lambda: not daemon._queue.empty(), "figures of the host")
    schedule.close()


def test_a_run_whose_handling_fails_is_begun_again_and_harms_no_other(tmp_path: Path) -> None:
    bases = [tmp_path / "a", tmp_path / "b"]
    for base in bases:
        Trainer(base).train(1)
    daemon = Daemon(bases, lambda _: Settings(poll_interval=0.2), settings=Settings(poll_interval=0.2))
    thread = threading.Thread(target=serve, args=(daemon,))
    thread.start()
    try:
        until(lambda: len(daemon._lanes) == 2 and all(x.standing.met for x in daemon._lanes), "both runs met")
        first = daemon._lanes[0].run
        original, failed = first.tick, threading.Event()

        def tick(figures: dict[str, float]) -> None:
            if not failed.is_set():
                failed.set()
                raise ZeroDivisionError("what nobody foresaw")
            original(figures)

        first.tick = tick  # type: ignore[method-assign]
        assert failed.wait(PATIENCE)
        until(lambda: "Internal error: ZeroDivisionError" in text(bases[0]), "word of it")
        until(lambda: "Resumed: " in text(bases[0]), "the new beginning")
        assert "Internal error" not in text(bases[1])
        assert "Resumed: " not in text(bases[1])
    finally:
        daemon._stopping = True
        thread.join(PATIENCE)


def test_a_run_is_attended_to_when_something_stirred_and_not_at_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("AT_REST", "CALM", "LOOK_AROUND"):
        monkeypatch.setattr(f"smart_monitor.daemon.lane.{pause}", math.inf)
    trainer, pool = Trainer(tmp_path), Pool(lambda error: pytest.fail(str(error)))
    trainer.train(1)
    lane = Lane(tmp_path, tmp_path / "out", lambda: Settings(poll_interval=1e6, watchdog=False), pool, Manner(dry=True))
    (tmp_path / "out").mkdir()
    lane.work()
    run, attended = lane.run, 0
    assert run is not None and run.eye is not None
    original, eye = run.attend, run.eye

    def attend(mono: float) -> None:
        nonlocal attended
        attended += 1
        original(mono)

    def after_a_look() -> int:
        """How often it has been attended to once the eye has looked and the lane has worked."""
        eye.wake()
        eye.work()
        lane.work()
        return attended

    run.attend = attend  # type: ignore[method-assign]
    assert 1 == after_a_look()  # the first contact
    assert lane.standing.met
    for _ in range(9):
        trainer.train(1)
        assert 1 == after_a_look()
    trainer.write(math.nan)
    assert 2 == after_a_look()
    trainer.write(0.7, status="completed")
    assert 3 == after_a_look()
    assert lane.standing.ended
    lane.close(0.0)
    lane.work()


def test_what_was_met_and_what_was_told_stand_in_the_status_before_the_next_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smart_monitor.daemon.vitals.FRESH", math.inf)
    monkeypatch.setattr("smart_monitor.daemon.vitals.FRESH_COPYING", math.inf)
    trainer, settings = Trainer(tmp_path), Settings(poll_interval=1e6)
    trainer.train(1)
    daemon = Daemon([tmp_path], lambda _: settings, settings=settings)
    thread = threading.Thread(target=serve, args=(daemon,))
    thread.start()
    try:
        until(lambda: known(tmp_path).get("step") == 1, "the first step in the vitals")
        trainer.write(math.nan)
        until(lambda: ["nan"] in [i["kinds"] for i in known(tmp_path).get("open_incidents", [])], "the incident in the vitals")
        assert {"nan": 1} == known(tmp_path)["findings"]
    finally:
        daemon._stopping = True
        thread.join(PATIENCE)


def known(base: Path) -> dict[str, Any]:
    return read_vitals(Place(base, None)) or {}


def text(base: Path) -> str:
    return "".join(path.read_text() for path in (base / "logs").glob("*.log"))


def running() -> Pool:
    """A pool with its thread."""
    pool = Pool(lambda error: pytest.fail(str(error)))
    pool.attend(0.0)
    return pool


class Hanging:
    """A source whose read does not return until it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.go = threading.Event()

    def read(self, cursor: Cursor, now_wall: float, now_mono: float) -> Pass:
        self.go.wait(60)
        return Pass(cursor, Sight(True, "", "somewhere"))

    def resumed(self, cursor: Cursor, last: object, count: int) -> Cursor:
        return cursor


def test_a_source_that_is_lost_is_in_the_tick_until_another_gives_values(log: tuple[Log, list[str]]) -> None:
    outlook, now = Outlook(log[0], Path("/run")), time.monotonic()
    outlook.see(Pass({}, Sight(True, "", "somewhere")))
    fine = {"name": "jsonl", "records": 5, "ok": True, "why": ""}
    lost = {"name": "status", "records": 5, "ok": False, "why": "There is no file yet."}
    silent = {"name": "csv", "records": 0, "ok": False, "why": "It is torn."}
    assert "source_lost" not in outlook.figures(now, [fine, silent])[0]
    assert 0.0 == outlook.figures(now, [fine, silent, lost])[0]["source_lost"]
    figures, why = outlook.figures(now + 40, [fine, lost])
    assert (40.0, "status (There is no file yet)") == (figures["source_lost"], why)
    assert "source_lost" not in outlook.figures(now + 41, [fine])[0]
    assert 0.0 == outlook.figures(now + 42, [fine, lost])[0]["source_lost"]
    outlook.see(Pass({}, Sight(True, "", "somewhere"), records=[Record("run", "jsonl", 1)]))
    assert "source_lost" in outlook.figures(now + 43, [fine, lost])[0]  # it came before
    outlook._step = now + 44
    assert "source_lost" not in outlook.figures(now + 90, [fine, lost])[0]


def test_a_read_that_hangs_makes_its_run_blind_and_one_that_returns_ends_it(log: tuple[Log, list[str]]) -> None:
    source, passes = Hanging(), []
    eye = Eye(source, {}, lambda _, seen: passes.append(seen))
    outlook = Outlook(log[0], Path("/mnt/run"))
    outlook.begin(eye)
    outlook.see(Pass({}, Sight(True, "", "somewhere")))
    pool = running()
    eye.start(pool, "/mnt")
    now = time.monotonic()
    assert not outlook.check(now)
    assert outlook.check(now + HUNG + 1)
    assert "does not return (a hung mount?)" in outlook.sight.why
    assert outlook.figures(now + HUNG + 5, ())[0]["blind"] > 0
    source.go.set()
    until(lambda: eye.passes)
    assert outlook.check(time.monotonic())
    assert outlook.sight.ok
    eye.close()
    pool.end()
    assert [
        "INFO Reads somewhere",
        "WARNING Can't see: a read of /mnt/run does not return (a hung mount?)",
        "INFO Reads somewhere again",
    ] == log[1]


def test_a_look_that_is_known_to_bring_nothing_is_a_pass_and_checkpoints_are_asked_about_all_the_same(tmp_path: Path) -> None:
    source, passes, glances = StatusFile(tmp_path, "run"), [], []
    eye = Eye(source, {}, lambda _, seen: passes.append(seen), lambda: bool(glances.append(0)))
    (tmp_path / "training_status.json").write_text('{"step": 1, "loss": 1.0}')
    os.utime(tmp_path / "training_status.json", (1e9, 1e9))  # written so long ago that nobody looks at it again
    reads = []
    real = source.read
    source.read = lambda *given: reads.append(0) or real(*given)  # type: ignore[func-returns-value, method-assign]
    for number in (1, 2, 3):
        eye.work()
        assert (number, number, 1, 1) == (eye.passes, len(glances), len(reads), len(passes))


def test_sight_that_comes_and_goes_does_not_fill_the_log(log: tuple[Log, list[str]]) -> None:
    outlook = Outlook(log[0], Path("/run"))
    outlook.begin(Eye(Hanging(), {}, lambda _, __: None))
    for number in range(200):
        outlook.see(Pass({}, Sight(number % 2 == 0, "" if number % 2 == 0 else f"reason {number}", "somewhere")))
    assert OFTEN == len(log[1])


def test_a_clock_set_back_keeps_the_journal_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r")
    journal.open()
    for number, seen in enumerate((1762988399.0, 1763100000.0, 1762900000.0, 0.0)):
        journal.append(Record("r", "status", number, step=number, seen=seen))
    journal.close()
    lines = [line for path in sorted(tmp_path.iterdir()) for line in path.read_text().splitlines() if '"n": ' in line]
    assert [1, 2, 3, 4] == [int(line.split('"n": ')[1].split(",")[0]) for line in lines]
    again = Journal(tmp_path, "r")
    again.open()
    assert (4, 4) == (again.number, again.records)


def test_where_it_wrote_before_it_goes_on_writing(tmp_path: Path) -> None:
    base = tmp_path / "run"
    base.mkdir()
    assert base == find_out(base)
    checkpoint = Trainer(tmp_path / "x").checkpoint(1)
    checkpoint.rename(base / "checkpoint-1")
    assert tmp_path / "run.monitor" == find_out(base)
    (base / ".smart_monitor").mkdir()
    assert base == find_out(base)


def test_a_directory_that_vanishes_while_we_settle_is_not_made(tmp_path: Path) -> None:
    place = Place(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        place.settle()
    assert [] == list(tmp_path.iterdir())
