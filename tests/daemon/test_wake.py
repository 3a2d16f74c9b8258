"""File-system events wake sooner; their silent death is noticed; without them everything goes on."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.daemon import eye, inotify
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.inotify import GROWS, Inotify
from smart_monitor.daemon.pool import Pool
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.wake import REPLACEMENTS, UNANNOUNCED, Wake
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.status_json import StatusFile
from tests.daemon.watching import Trainer
from tests.waiting import PATIENCE, until


class Watch:
    """An eye and its wake beside a trainer."""

    def __init__(self, base: Path, *, running: bool = True) -> None:
        self.trainer = Trainer(base)
        source = StatusFile(base, "r")
        self.seen: list[Pass] = []
        self.eye = Eye(source, {}, lambda _, seen: self.seen.append(seen))
        self.pool = Pool(lambda error: pytest.fail(str(error)))
        self.wake = Wake(self.eye, lambda: source.paths, self.pool)
        self.pool.attend(0.0)
        if running:
            self.eye.start(self.pool, "/")

    def steps(self) -> list[int | None]:
        return [r.step for p in self.seen for r in p.records]

    def close(self) -> None:
        self.eye.close()
        self.wake.close()
        self.pool.end()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    made = Watch(tmp_path)
    yield made
    made.close()


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Watch]:
    """An eye that looks only when told to."""
    made = Watch(tmp_path, running=False)
    yield made
    made.close()


def look(watch: Watch, *, write: bool = True) -> None:
    if write:
        watch.trainer.train(1)
    watch.eye.look()


def deafen(wake: Wake) -> None:
    """It listens and hears nothing more."""
    assert wake.inotify is not None
    for watched in wake._watched.values():
        wake.inotify.unwatch(watched.number)


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself an eye looks once an hour."""
    monkeypatch.setattr(eye, "SAMPLE", 3600.0)


def test_an_event_wakes_the_eye_long_before_its_next_look(seldom: None, watch: Watch) -> None:
    watch.wake.check()
    for step in range(1, 10):
        watch.trainer.train(1)
        until(lambda step=step: step in watch.steps(), f"step {step}")


def test_replacements_of_a_linked_status_file_wake_it_too(tmp_path: Path, watch: Watch) -> None:
    real = Trainer(tmp_path / "elsewhere")
    real.train(1)
    watch.trainer.path.symlink_to(real.path)
    watch.wake.check()
    before = watch.eye.wakes
    real.train(1)
    until(lambda: watch.eye.wakes > before)


def test_events_of_other_files_wake_nobody(watch: Watch) -> None:
    watch.trainer.train(1)
    watch.wake.check()
    time.sleep(0.1)
    before = watch.eye.wakes
    (watch.trainer.path.parent / "other.json").write_text("{}")
    time.sleep(0.2)
    assert before == watch.eye.wakes


def test_a_writer_that_renames_wakes_once_a_write_and_one_that_begins_to_write_in_place_is_heard_again(still: Watch) -> None:
    still.trainer.train(1)
    still.wake.check()
    for wakes in (1, 2):
        still.trainer.train(1)
        until(lambda wakes=wakes: still.eye.wakes == wakes)
    still.wake.check()  # from here on this file is listened to
    still.trainer.write(0.5, in_place=True)
    until(lambda: still.eye.wakes == 3)


def test_what_is_written_beside_the_files_that_are_read_is_not_even_heard(tmp_path: Path) -> None:
    log, other = tmp_path / "metrics.jsonl", tmp_path / "chatter.log"
    log.write_text("{}\n")
    other.write_text("word\n")
    eye = Eye(StatusFile(tmp_path, "r"), {}, lambda *_: None)
    pool = Pool(lambda error: pytest.fail(str(error)))  # nobody waits in it: what is told stays told
    wake = Wake(eye, lambda: [str(log)], pool)
    wake.check()
    assert wake.inotify is not None
    with other.open("a") as chatter:
        chatter.write("word\n")
    with log.open("a") as metrics:
        metrics.write("{}\n")
    heard = wake.inotify.events()
    assert {wake._numbered[number].path for number, _, _ in heard} == {str(log)}
    wake.close()
    pool.end()


def test_a_log_that_begins_anew_is_listened_to_once_something_of_it_was_read(still: Watch, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text("{}\n")
    still.wake._paths = lambda: [str(log)]
    still.wake.check()
    log.rename(tmp_path / "metrics.jsonl.1")
    with log.open("a", buffering=1) as file:
        until(lambda: still.eye.wakes == 1)  # its name came
        still.wake.heard()
        file.write("{}\n")
        until(lambda: still.eye.wakes == 2)


def test_an_instance_that_can_not_be_read_is_replaced(still: Watch) -> None:
    still.trainer.train(1)
    still.wake.check()
    broken = still.wake.inotify
    assert broken is not None
    still.pool.unlisten(broken.fd)
    with socket.socket() as unconnected:
        os.dup2(unconnected.fileno(), broken.fd)  # to read it is an error
    still.pool.listen(broken.fd, still.wake._hear)
    until(lambda: broken.failed)
    assert "failed and was replaced" in still.wake.check()
    before = still.eye.wakes
    still.trainer.train(1)
    until(lambda: still.eye.wakes > before)


def test_a_deaf_instance_is_replaced_and_after_four_times_rests(still: Watch) -> None:
    """Deaf: it watches, the eye finds changes by itself, and no event ever came."""
    said = []
    for _ in range(REPLACEMENTS + 2):
        still.wake.check()
        if still.wake.inotify is not None:
            deafen(still.wake)
        for _ in range(3):
            look(still)
        said.append(still.wake.check())
    assert ["went deaf and was replaced" in s for s in said[:REPLACEMENTS]] == [True] * REPLACEMENTS
    assert "rests for an hour" in said[REPLACEMENTS]
    assert "" == said[-1]
    assert still.wake.trouble
    assert still.wake.inotify is None


def test_a_directory_moved_away_and_made_anew_is_watched_at_the_next_change(still: Watch) -> None:
    look(still)
    still.wake.check()
    directory = still.trainer.path.parent
    directory.rename(directory.with_name("old"))
    directory.mkdir()
    time.sleep(1.1)
    look(still)
    still.wake.heard()
    before = still.eye.wakes
    still.trainer.train(1)
    until(lambda: still.eye.wakes > before)
    shutil.rmtree(directory)
    assert "" == still.wake.check()


def test_without_inotify_watches_the_stat_goes_on(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    # The limit is the kernel's and every test's: to exhaust it would disturb the others.
    monkeypatch.setattr(inotify, "inotify_add_watch", refused)
    assert "" == watch.wake.check()
    assert "no more inotify watches are to be had (fs.inotify.max_user_watches)" == watch.wake.trouble
    watch.trainer.train(1)
    until(lambda: watch.steps() == [1])
    monkeypatch.undo()
    watch.wake.check()
    assert "" == watch.wake.trouble


def test_a_directory_that_hangs_holds_back_no_event_of_another(watch: Watch, tmp_path: Path, monkeypatch: Any) -> None:
    watch.trainer.train(1)
    watch.wake.check()
    begun, go = threading.Event(), threading.Event()

    def hanging(*_: Any) -> int:
        begun.set()
        go.wait(60)
        return 99

    monkeypatch.setattr("smart_monitor.daemon.inotify.inotify_add_watch", hanging)
    assert watch.wake.inotify is not None
    lane = threading.Thread(target=watch.wake.inotify.watch, args=(str(tmp_path), GROWS))
    lane.start()
    assert begun.wait(PATIENCE)
    for _ in range(3):
        before = watch.eye.wakes
        watch.trainer.train(1)
        until(lambda: watch.eye.wakes > before)  # noqa: B023
        until(lambda: watch.trainer.step in watch.steps())
    go.set()
    lane.join(PATIENCE)


def test_where_one_directory_can_not_be_watched_the_others_are(still: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    listen, directory = Inotify.watch, still.trainer.path.parent

    def choosy(inotify: Inotify, place: str, events: int) -> int:
        if place == f"{directory}/":
            raise PermissionError(13, "Permission denied")
        return listen(inotify, place, events)

    monkeypatch.setattr(Inotify, "watch", choosy)
    still.trainer.train(1)
    still.wake.check()
    assert "Permission denied" == still.wake.trouble
    before = still.eye.wakes
    os.replace(still.trainer.path, directory.parent / still.trainer.path.name)
    until(lambda: still.eye.wakes > before)
    still.wake.check()
    for _ in range(UNANNOUNCED):
        look(still)
    assert "" == still.wake.check()  # no event announced these, and nobody is deaf for that
    monkeypatch.undo()
    still.wake.check()
    assert "" == still.wake.trouble


def test_more_events_than_there_is_room_for_wake_it_whatever_they_told_of(tmp_path: Path) -> None:
    eye = Eye(StatusFile(tmp_path, "r"), {}, lambda *_: None)
    pool = Pool(lambda error: pytest.fail(str(error)))
    wake = Wake(eye, lambda: [str(tmp_path / "training_status.json")], pool)
    wake.check()
    others = [tmp_path / name for name in ("a", "b")]  # in turn: equal events would be one
    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 1):
        os.close(os.open(others[number % 2], os.O_WRONLY | os.O_CREAT))
        os.unlink(others[number % 2])
    assert 0 == eye.wakes
    pool.attend(0.0)
    until(lambda: 1 == eye.wakes)
    wake.close()
    pool.end()


def test_a_log_is_heard_beside_another_that_grows_without_end(tmp_path: Path) -> None:
    ours, other = tmp_path / "metrics.jsonl", tmp_path / "chatter.log"
    eye = Eye(StatusFile(tmp_path, "r"), {}, lambda *_: None)
    pool = Pool(lambda error: pytest.fail(str(error)))
    wake = Wake(eye, lambda: [str(ours)], pool)
    wake.check()
    with other.open("ab", buffering=0) as chatter, ours.open("ab", buffering=0) as metrics:
        chatter.write(b"word\n")
        metrics.write(b"{}\n")
        pool.attend(0.0)
        until(lambda: eye.wakes)
    wake.close()
    pool.end()


class Broken:
    """A source that raises, which no source may."""

    name = "broken"
    healed = False

    def read(self, cursor: Cursor, now_wall: float, now_mono: float) -> Pass:
        if not self.healed:
            raise ZeroDivisionError("what nobody foresaw")
        return Pass(cursor, Sight(True, "", "somewhere"))

    def resumed(self, cursor: Cursor, last: Any, count: int) -> Cursor:
        return cursor


def test_a_source_that_raises_blinds_its_run_until_it_is_well_again() -> None:
    seen: list[Pass] = []
    source = Broken()
    eye = Eye(source, {}, lambda _, s: seen.append(s))
    pool = Pool(lambda error: pytest.fail(str(error)))
    pool.attend(0.0)
    eye.start(pool, "/")
    until(lambda: seen)
    assert "Reading failed: ZeroDivisionError: what nobody foresaw" == seen[0].sight.why
    source.healed = True
    until(lambda: len(seen) > 1)
    assert seen[-1].sight.ok
    eye.close()
    pool.end()


def test_a_scheduler_that_died_can_be_started_anew() -> None:
    ticks: list[int] = []
    schedule = Schedule(lambda: ticks.append(1), 0.1)
    until(lambda: ticks)
    schedule._ended.set()
    schedule.ticker.join(PATIENCE)
    count = len(ticks)
    schedule.restart(0.1)
    until(lambda: len(ticks) > count)
    schedule.close()


def test_a_job_that_raised_does_not_count_as_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    ticks: list[int] = []

    def job() -> None:
        ticks.append(1)
        raise MemoryError

    schedule = Schedule(job, 0.05)
    schedule.ticker.join(PATIENCE)
    assert not schedule.hanging
    schedule.restart(0.05)
    until(lambda: len(ticks) == 2)
    schedule.close()


def test_beside_a_job_that_hangs_no_second_scheduler_is_started() -> None:
    release, began = threading.Event(), threading.Event()

    def job() -> None:
        began.set()
        release.wait(30)

    schedule = Schedule(job, 0.05)
    assert began.wait(PATIENCE)
    ticker = schedule.ticker
    schedule.restart(0.05)
    assert ticker is schedule.ticker
    release.set()
    schedule.close()
