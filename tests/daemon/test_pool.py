"""The pool: each task by one thread at a time, whoever hangs is replaced, and one place that hangs does not take them all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from smart_monitor.daemon.pool import MOST_OF_ONE, NEVER, STUCK, Pool
from tests.waiting import PATIENCE, until


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(lambda error: pytest.fail(str(error)), threads=2)
    made.attend(0.0)
    yield made
    made.end()


class Hang:
    """Work that does not come back until it is let go."""

    def __init__(self) -> None:
        self.go, self.begun, self.count = threading.Event(), threading.Event(), 0

    def __call__(self) -> float:
        self.count += 1
        self.begun.set()
        self.go.wait(60)
        return NEVER


def test_a_task_is_done_again_when_it_said(pool: Pool) -> None:
    times: list[float] = []

    def work() -> float:
        times.append(time.monotonic())
        return times[-1] + 0.1

    pool.add(work, "here")
    until(lambda: len(times) >= 4)
    assert all(later - before >= 0.1 for before, later in pairwise(times))


def test_no_two_threads_do_one_task_and_no_wake_is_lost(pool: Pool) -> None:
    inside, most, done, wakes = 0, 0, 0, threading.Event()

    def work() -> float:
        nonlocal inside, most, done
        inside += 1
        most = max(most, inside)
        seen = wakes.is_set()
        time.sleep(0.001)
        inside -= 1
        done += seen
        return NEVER

    task = pool.add(work, "here", NEVER)
    for _ in range(100):
        pool.wake(task)
        time.sleep(0.0005)
    wakes.set()
    pool.wake(task)
    until(lambda: done >= 1, "the last wake")
    assert 1 == most


def test_threads_that_hang_are_replaced_and_retire_when_they_come_back(pool: Pool) -> None:
    hangs, other = [Hang(), Hang()], threading.Event()
    for hang in hangs:
        pool.add(hang, "there")
    assert all(hang.begun.wait(PATIENCE) for hang in hangs)
    pool.add(lambda: other.set() or NEVER, "here")
    pool.attend(time.monotonic())
    assert not other.is_set()
    pool.attend(time.monotonic() + STUCK + 1)
    assert other.wait(PATIENCE)
    for hang in hangs:
        hang.go.set()
    until(lambda: sum(t.name == "worker" and t.is_alive() for t in threading.enumerate()) <= 2, "the surplus to retire")


def test_one_place_that_hangs_takes_only_so_many_threads(pool: Pool) -> None:
    hangs, other = [Hang() for _ in range(MOST_OF_ONE + 8)], threading.Event()
    for hang in hangs:
        pool.add(hang, "there")
    for _ in range(MOST_OF_ONE):
        until(lambda: sum(h.begun.is_set() for h in hangs) >= 2)
        pool.attend(time.monotonic() + STUCK + 1)
    pool.add(lambda: other.set() or NEVER, "here")
    until(lambda: pool.attend(time.monotonic() + STUCK + 1) or other.is_set(), "the other place")
    assert sum(h.count for h in hangs) <= MOST_OF_ONE + pool.threads
    for hang in hangs:
        hang.go.set()


def test_a_task_that_raises_is_told_and_tried_again_later_and_harms_no_other() -> None:
    told: list[Exception] = []
    pool, other = Pool(told.append), threading.Event()
    pool.attend(0.0)

    def fails() -> float:
        raise ZeroDivisionError

    pool.add(fails, "here")
    pool.add(lambda: other.set() or NEVER, "here", time.monotonic() + 0.1)
    assert other.wait(PATIENCE)
    assert [ZeroDivisionError] == [type(e) for e in told]
    pool.end()


def test_what_can_be_read_is_heard_by_a_thread_that_waits_also_while_another_works(pool: Pool) -> None:
    hang, heard = Hang(), []
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    pool.listen(ours, lambda: heard.append(os.read(ours, 100)))
    for number in range(3):
        os.write(theirs, b"%d" % number)
        until(lambda: b"".join(heard) == b"012"[: number + 1])  # noqa: B023
    pool.add(hang, "there")
    assert hang.begun.wait(PATIENCE)
    os.write(theirs, b"3")
    until(lambda: b"".join(heard) == b"0123")
    pool.unlisten(ours)
    os.write(theirs, b"4")
    done = threading.Event()
    pool.add(lambda: done.set() or NEVER, "here")
    assert done.wait(PATIENCE)
    assert b"0123" == b"".join(heard)
    hang.go.set()
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("threads", [1, 2])
def test_tasks_are_done_when_due_and_when_woken_while_somebody_listens(threads: int) -> None:
    pool = Pool(lambda error: pytest.fail(str(error)), threads)
    ours, theirs = os.pipe()
    pool.listen(ours, lambda: None)
    pool.attend(0.0)
    times: list[float] = []
    woken = [0]

    def work() -> float:
        times.append(time.monotonic())
        return times[-1] + 0.05

    def wake() -> float:
        woken[0] += 1
        return NEVER

    pool.add(work, "here")
    task = pool.add(wake, "here", NEVER)
    for number in range(20):
        pool.wake(task)
        until(lambda: woken[0] > number)  # noqa: B023
    until(lambda: len(times) >= 4)
    assert all(later - before >= 0.05 for before, later in pairwise(times))
    pool.end()
    until(lambda: not pool._workers, "the threads to end")
    os.close(ours)
    os.close(theirs)


def test_who_fails_to_hear_is_told_of_and_heard_no_more_and_the_threads_live_on() -> None:
    told: list[Exception] = []
    pool, times = Pool(told.append), [0]
    ours, theirs = os.pipe()

    def deaf() -> None:
        times[0] += 1
        raise MemoryError

    pool.listen(ours, deaf)
    pool.attend(0.0)
    os.write(theirs, b"0")
    until(lambda: told)
    done = threading.Event()
    pool.add(lambda: done.set() or NEVER, "here")
    assert done.wait(PATIENCE)
    assert ([MemoryError], [1]) == ([type(e) for e in told], times)
    pool.unlisten(ours)
    pool.end()
    os.close(ours)
    os.close(theirs)


def test_where_no_thread_can_be_made_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, done = Pool(lambda error: pytest.fail(str(error))), threading.Event()
    pool.add(lambda: done.set() or NEVER, "here")
    monkeypatch.setattr(threading.Thread, "start", refused)
    pool.attend(0.0)
    monkeypatch.undo()
    pool.attend(0.0)
    assert done.wait(PATIENCE)
    pool.end()
