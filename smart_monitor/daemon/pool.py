"""A few threads that do the work of many runs, and the replacing of those that hang.

A task is done by one thread at a time and says when it is due again. A thread that does not come back from a task
(a hung mount) is left with it, and another takes its place: only what lies on that mount waits. One of the threads
that have nothing to do listens to descriptors (file-system events), so that they need no thread of their own.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count

from smart_monitor.daemon.ear import Ear

NEVER = float("inf")
STUCK = 1.0
"""Seconds after which a thread is replaced that has not come back from a task."""
MOST = 64
"""Threads at most, those that hang included."""
MOST_OF_ONE = 8
"""Threads that may hang in one place: what else lies there waits until one of them returns."""
AGAIN = 5.0
"""Seconds after which a task that raised, or that lies where too many hang, is tried again."""


class Task:
    """Something to be done again and again, never by two threads at once. All but `since` is the pool's business."""

    __slots__ = ("again", "due", "gone", "place", "since", "work")

    def __init__(self, work: Callable[[], float], place: str) -> None:
        self.work, self.place = work, place
        self.due = NEVER
        self.since = 0.0
        """Monotonic seconds at which somebody began to do it; 0 while nobody does."""
        self.again = self.gone = False


class _Worker:
    __slots__ = ("stuck", "task")

    def __init__(self) -> None:
        self.task: Task | None = None
        self.stuck = False


class Pool:
    """Tasks and the threads that do them. Times are monotonic seconds.

    `threads`: how many are at work beside those that hang; `grain`: seconds for which tasks are gathered, so that
    thousands of them don't wake a thread each. `complain` is told what a task raised, which none should.
    """

    def __init__(self, complain: Callable[[Exception], None], threads: int = 1, grain: float = 0.0) -> None:
        self.threads, self.grain = threads, grain
        self.last = time.monotonic()
        """When a task was last done."""
        self._complain = complain
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._heap: list[tuple[float, int, Task]] = []
        self._number = count()
        self._workers: list[_Worker] = []
        self._left = 0
        """Threads that hang."""
        self._ear: Ear | None = None
        self._listened = False
        """Is there anything to listen to?"""
        self._listening, self._waiting = False, 0
        """Does one of those who wait listen; how many do not."""
        self._stuck: Counter[str] = Counter()
        self._ended = False

    # -- from any thread --------------------------------------------------------------------------

    def add(self, work: Callable[[], float], place: str, due: float = 0.0) -> Task:
        """Do `work` from `due` on; it returns when it is due again (NEVER: when it is woken). `place`: what may hang with it."""
        task = Task(work, place)
        with self._lock:
            self._put(task, due)
            self._call()
        return task

    def wake(self, task: Task) -> None:
        """Do it now; if it is being done, once more afterwards."""
        with self._lock:
            if task.since:
                task.again = True
            elif not task.gone and task.due > 0.0:
                self._put(task, 0.0)
                self._call()

    def remove(self, task: Task) -> None:
        """Do it no more."""
        with self._lock:
            task.gone, task.due = True, NEVER

    def listen(self, fd: int, hear: Callable[[], None]) -> None:
        """Call `hear` whenever `fd` can be read: it must read all there is, and never wait. Raises OSError.

        If it raises, that is told, and `fd` is listened to no more.
        """
        with self._lock:
            ear = Ear() if self._ear is None else self._ear
            ear.add(fd, hear)
            self._ear, self._listened = ear, True
            self._call()

    def unlisten(self, fd: int) -> None:
        """Listen to it no more; to be called before it is closed."""
        with self._lock:
            if self._ear is not None:
                self._ear.remove(fd)
                self._listened = len(self._ear) > 0

    def attend(self, now: float) -> None:
        """Called every second or so, by whoever does not hang: replace who does."""
        with self._lock:
            for worker in self._workers:
                if worker.task is not None and not worker.stuck and now - worker.task.since > STUCK:
                    worker.stuck = True
                    self._left += 1
                    self._stuck[worker.task.place] += 1
            missing = self.threads - len(self._workers) + self._left
            for _ in range(min(missing, MOST - len(self._workers))):
                worker = _Worker()
                try:
                    threading.Thread(target=self._serve, args=(worker,), name="worker", daemon=True).start()
                except RuntimeError:
                    break  # the machine has no more of them to give; the next call tries again
                self._workers.append(worker)

    def end(self) -> None:
        """Nothing more is begun."""
        with self._lock:
            self._ended = True
            self._call()
            self._turn.notify_all()

    # -- the threads ------------------------------------------------------------------------------

    def _serve(self, worker: _Worker) -> None:
        while (task := self._next(worker)) is not None:
            try:
                due = task.work()
            except Exception as error:
                self._complain(error)
                due = time.monotonic() + AGAIN
            self.last = time.monotonic()
            with self._lock:
                task.since, worker.task = 0.0, None
                if worker.stuck:
                    worker.stuck = False
                    self._left -= 1
                    self._stuck[task.place] -= 1
                due, task.again = 0.0 if task.again else due, False
                if not task.gone:
                    self._put(task, due)

    def _next(self, worker: _Worker) -> Task | None:
        """Wait for the next task; None if this thread is one too many."""
        with self._lock:
            while not self._ended and len(self._workers) - self._left <= self.threads:
                heap = self._heap
                while heap and heap[0][0] != heap[0][2].due:  # done, woken or removed since: nobody is woken for these
                    heapq.heappop(heap)
                now = time.monotonic()
                if not heap or heap[0][0] > now:
                    self._wait(max(heap[0][0] - now, self.grain) if heap else None)
                    continue
                _, _, task = heapq.heappop(heap)
                if self._stuck.get(task.place, 0) >= MOST_OF_ONE:
                    self._put(task, now + AGAIN)
                    continue
                task.due, task.since, worker.task = NEVER, now, task
                self._pass_on()
                return task
            self._workers.remove(worker)
            self._pass_on()
            return None

    def _wait(self, seconds: float | None) -> None:
        """Until a task may be due. One of those who wait listens meanwhile, and does at once what it hears."""
        if self._listening or self._ear is None or not self._listened:
            self._waiting += 1
            self._turn.wait(seconds)
            self._waiting -= 1
            return
        self._listening, heard = True, []
        self._lock.release()
        try:
            heard = self._ear.wait(seconds)
        finally:
            self._lock.acquire()
            self._listening = False
        self._lock.release()
        try:
            for fd, hear in heard:
                self._hear(fd, hear)
        finally:
            self._lock.acquire()

    def _hear(self, fd: int, hear: Callable[[], None]) -> None:
        try:
            hear()
        except Exception as error:  # it would be called without end, for what it did not read can still be read
            self.unlisten(fd)
            self._complain(error)

    def _call(self) -> None:
        """Somebody who waits shall look again."""
        if self._listening and self._ear is not None:
            self._ear.ring()
        elif self._waiting:
            self._turn.notify()

    def _pass_on(self) -> None:
        """Who stops waiting lets another listen."""
        if self._waiting and self._listened and not self._listening:
            self._turn.notify()

    def _put(self, task: Task, due: float) -> None:
        task.due = due
        if due < NEVER:
            heapq.heappush(self._heap, (due, next(self._number), task))
