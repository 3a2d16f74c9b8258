"""The daemon's main thread: signals, host figures, systemd. The runs are worked on in the pool, a lane each."""

from __future__ import annotations

import gc
import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.daemon.holders import Holders
from smart_monitor.daemon.lane import Lane, Manner
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.pool import STUCK, Pool
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.sd_notify import Notifier
from smart_monitor.daemon.survey import survey
from smart_monitor.daemon.tidying import Tidying

FINE, TROUBLE, LOCKED = 0, 1, 3
LATE_TICKS = 3
RECENT = 3.0
"""Seconds within which the pool has done something if it lives."""
MANY = 32
"""Runs above which there are no file-system events: each run would cost an inotify instance, of which there are few."""
LAST = 5.0
"""Seconds beyond the time given to copies for which, at the end, a run that hangs is waited for."""


class Daemon:
    """Watches runs until it is told to stop. `load` gives the settings of a run, at start and at SIGHUP."""

    def __init__(
        self,
        bases: Sequence[Path],
        load: Callable[[Path], Settings],
        *,
        out: Path | None = None,
        once: bool = False,
        dry: bool = False,
        exit_when_done: bool = False,
    ) -> None:
        self._load, self._out = load, out
        self._once, self._dry, self._exit_when_done = once, dry, exit_when_done
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._settings = {base: load(base) for base in bases}
        self._lanes: list[Lane] = []
        self._log = Log()
        self._pool = Pool(self._complain)
        self._notifier = Notifier()
        self._tidying, self._holders = Tidying(), Holders()
        self._figures: Mapping[str, Mapping[str, float]] = {}
        self._stopping = self._ready = False
        self._code = FINE
        self._ticked = time.monotonic()
        self._pinged = 0.0
        self._said = ""
        self._interval = self._shortest()

    def run(self) -> int:
        """Watch. Returns the exit code: 0, 1 if --once found nothing to read, 3 if other monitors hold every run."""
        with ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                previous = signal.signal(number, lambda n, _: self._queue.put(("signal", n)))
                stack.callback(signal.signal, number, previous)
            self._begin(stack)
            hours = min(s.prune_hours for s in self._settings.values())
            schedule = Schedule(self._host_job, self._interval, lambda: self._queue.put(("tidy", None)), hours)
            stack.callback(schedule.close)
            while not self._stopping:
                self._turn(schedule)
            self._close_all()
        return self._code

    def _begin(self, stack: ExitStack) -> None:
        watchdog = len(self._settings) <= MANY
        manner = Manner(self._once, self._dry, watchdog, self._figures_of, lambda: self._queue.put(("changed", None)))
        for base, settings in self._settings.items():
            place = Place(base, self._dry_out(stack) if self._dry else self._out)
            self._lanes.append(Lane(base, place, settings, partial(self._reload, base), self._pool, manner))
        self._pool.attend(time.monotonic())
        for lane in self._lanes:
            lane.start()

    @staticmethod
    def _dry_out(stack: ExitStack) -> Path:
        import tempfile  # not for the daemon that stays

        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smart-monitor-dry-")))

    def _close_all(self) -> None:
        self._notifier.send("STOPPING=1")
        self._tidying.close()
        end = time.monotonic() + max(s.stop_grace for s in self._settings.values())
        for lane in self._lanes:
            lane.close(end)
        for lane in self._lanes:
            while not lane.closed.wait(0.2) and not self._hangs(lane, end):
                self._pool.attend(time.monotonic())
        self._pool.end()

    @staticmethod
    def _hangs(lane: Lane, end: float) -> bool:
        """Is it no use to wait any longer for this one?"""
        now, since = time.monotonic(), lane.task.since
        return now > end + LAST and since > 0 and now - since > LAST

    # -- one turn of the loop ---------------------------------------------------------------------

    def _turn(self, schedule: Schedule) -> None:
        try:
            item = self._queue.get(timeout=self._sleep())
            while True:
                self._handle(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        self._pool.attend(time.monotonic())
        self._tidying.attend()
        self._watch_schedule(schedule)
        self._report()
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        stand = [lane.standing for lane in self._lanes]
        if not all(s.tried for s in stand):
            return
        if all(s.held for s in stand):
            self._stopping, self._code = True, LOCKED
        elif self._once and all(not s.opened or (s.met and not s.busy and not s.sending) for s in stand):
            self._stopping = True
            if not any(s.opened and s.sees for s in stand):
                self._code = TROUBLE
        elif self._exit_when_done and all(s.opened and s.ended and not s.busy and not s.sending for s in stand):
            self._stopping = True

    def _sleep(self) -> float:
        return min(STUCK, self._notifier.interval or STUCK)

    def _handle(self, item: tuple[str, Any]) -> None:
        what, told = item
        if what == "signal" and told == signal.SIGHUP:
            self._configure()
        elif what == "signal":
            self._stopping = True
        elif what == "tick":
            self._ticked, self._figures = time.monotonic(), told
            if not self._once:
                for lane in self._opened():
                    self._tidying.heed(lane, told.get(str(lane.run.place.out), {}))
        elif what == "tidy" and not self._once:
            for lane in self._opened():
                self._tidying.ask(lane)

    def _opened(self) -> Iterable[Lane]:
        return [lane for lane in self._lanes if lane.standing.opened]

    def _figures_of(self, out: str) -> Mapping[str, float]:
        return self._figures.get(out, {})

    def _host_job(self) -> None:
        try:
            found = survey([lane.run for lane in self._opened()], self._holders)
        except Exception:
            found = {}  # time has passed all the same
        self._queue.put(("tick", found))

    def _complain(self, error: Exception) -> None:
        self._log.error(f"Internal error: {type(error).__name__}: {error}; please report this")

    def _watch_schedule(self, schedule: Schedule) -> None:
        if self._interval != self._shortest():
            self._interval = self._shortest()
            schedule.restart(self._interval)
        late = time.monotonic() - self._ticked
        if late > LATE_TICKS * self._interval + 5:
            why = (
                "a look at the host hangs; the runs are watched without it"
                if schedule.hanging
                else "the scheduler is started anew"
            )
            if why != self._said:
                self._log.error(f"No figures of the host for {late:.0f} s: {why}")
            self._said = why
            schedule.restart(self._interval)
            self._handle(("tick", {}))
        elif not schedule.hanging:
            self._said = ""

    def _shortest(self) -> float:
        return min(s.poll_interval for s in self._settings.values())

    def _reload(self, base: Path) -> Settings:
        self._settings[base] = settings = self._load(base)
        return settings

    def _configure(self) -> None:
        self._notifier.reloading()
        for lane in self._lanes:
            lane.configure()
        self._notifier.send("READY=1")

    def _report(self) -> None:
        """Tell systemd: ready after the first pass over every run, alive only if passes return.

        A run whose read hangs is known to be blind and says so; starting anew would not mend its mount.
        """
        now = time.monotonic()
        runs = [lane.run for lane in self._lanes if lane.standing.opened]
        alive = now - self._pool.last < RECENT or all(r.outlook.hung for r in runs)
        tried = all(lane.standing.tried for lane in self._lanes)
        if not self._ready and tried and all(r.met or r.outlook.hung for r in runs):
            self._ready = True
            # What is there now stays: it need not be looked through at every collection, nor copied by a fork.
            gc.collect()
            gc.freeze()
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}")
        if self._ready and alive and self._notifier.interval and now - self._pinged >= self._notifier.interval:
            self._pinged = now
            blind = [lane.run.outlook.sight.why for lane in self._lanes if not lane.run.outlook.sight.ok]
            steps = ", ".join(f"{r.name} at step {r.last_step}" for r in runs)
            self._notifier.send("WATCHDOG=1", f"STATUS={'blind: ' + blind[0] if blind else steps or 'waiting'}")
