"""The daemon's main thread: signals, host figures, systemd. The runs are worked on in the pool, a lane each."""

from __future__ import annotations

import gc
import os
import queue
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.daemon.fleet import Candidate, Scout
from smart_monitor.daemon.holders import Holders
from smart_monitor.daemon.lane import AT_REST, Lane, Manner
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.named import Named
from smart_monitor.daemon.pool import STUCK, Pool
from smart_monitor.daemon.run import Run
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.sd_notify import Notifier
from smart_monitor.daemon.survey import survey
from smart_monitor.daemon.tidying import Tidying, has_something

FINE, TROUBLE, LOCKED = 0, 1, 3
LATE_TICKS = 3
RECENT = 3.0
"""Seconds within which the pool has done something if it lives."""
MANY = 32
"""Runs above which there are no file-system events: each run would cost an inotify instance, of which there are few."""
SPREAD = (5**0.5 - 1) / 2
"""Of all numbers the one whose multiples lie most evenly between whole ones."""
GRAIN = 0.02
"""Seconds for which the looks at so many runs are gathered."""
FILES = 6
"""Descriptors that a run may need at once."""
LAST = 5.0
"""Seconds beyond the time given to copies for which, at the end, a run that hangs is waited for."""


class Daemon:
    """Watches runs until it is told to stop. `load` gives the settings of a run, at start and at SIGHUP.

    `patterns` name more of them: those are taken up when they move and let go when they are over, looked for at the
    poll interval of `settings`.
    """

    def __init__(
        self,
        bases: Sequence[Path],
        load: Callable[[Path], Settings],
        *,
        patterns: Sequence[str] = (),
        settings: Settings | None = None,
        out: Path | None = None,
        once: bool = False,
        dry: bool = False,
        exit_when_done: bool = False,
    ) -> None:
        self._bases, self._patterns, self._load, self._out = bases, patterns, load, out
        self._once, self._dry, self._exit_when_done = once, dry, exit_when_done
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._settings: dict[Path, Settings] = {}
        self._usual = settings or Settings()
        self._lanes: list[Lane] = []
        self._candidates: dict[Path, Candidate] = {}
        self._scouts: list[Scout] = []
        self._log = Log()
        self._several = len(bases) > 1 or bool(patterns)
        self._pool = Pool(self._complain, 2 if self._several else 1)
        self._manner = Manner(
            once, dry, self._has_events, self._is_thrifty, self._figures_of, lambda: self._queue.put(("changed", None))
        )
        self._notifier = Notifier()
        self._tidying, self._holders = Tidying(), Holders()
        self._figures: Mapping[str, Mapping[str, float]] = {}
        self._stopping = self._ready = self._ever = False
        self._code = FINE
        self._ticked = time.monotonic()
        self._pinged = 0.0
        self._said = ""
        self._notes: dict[str, str] = {}
        self._gone = self._frozen = 0
        self._descriptors = 1024
        self._interval = self._shortest()

    def run(self) -> int:
        """Watch. Returns the exit code: 0, 1 if --once found nothing to read, 3 if other monitors hold every run."""
        with ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                previous = signal.signal(number, lambda n, _: self._queue.put(("signal", n)))
                stack.callback(signal.signal, number, previous)
            self._begin(stack)
            schedule = Schedule(self._host_job, self._interval, self._tidying_job, self._usual.prune_hours)
            stack.callback(schedule.close)
            while not self._stopping:
                self._turn(schedule)
            self._close_all()
        return self._code

    def _begin(self, stack: ExitStack) -> None:
        self._descriptors = _more_descriptors()
        if self._dry:
            import tempfile  # not for the daemon that stays

            self._out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smart-monitor-dry-")))
        self._pool.attend(time.monotonic())
        for base in self._bases:
            self._take_up(base)
        for pattern in self._patterns:
            self._scouts.append(Scout(pattern, self._pool, self._usual.poll_interval, lambda *n: self._queue.put(("named", n))))

    def _take_up(self, base: Path) -> Lane:
        out = self._out / f"{base.name}-{len(self._lanes)}" if self._dry and self._out and self._several else self._out
        first = share_of_first_tick(len(self._lanes))
        lane = Lane(base, out, partial(self._reload, base), self._pool, self._manner, first)
        self._lanes.append(lane)
        self._ever = True
        if len(self._lanes) > MANY:
            self._pool.grain = GRAIN
        lane.start()
        return lane

    def _close_all(self) -> None:
        self._notifier.send("STOPPING=1")
        self._tidying.close()
        end = time.monotonic() + max(s.stop_grace for s in (self._usual, *self._settings.values()))
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
            # Who watches one run has nobody else to look after when a thread hangs.
            pause = STUCK if self._several or self._tidying.busy else AT_REST
            item = self._queue.get(timeout=min(pause, self._notifier.interval or pause))
            while True:
                self._handle(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        self._pool.attend(time.monotonic())
        self._tidying.attend()
        self._watch_schedule(schedule)
        self._look_for_the_end()
        if not self._stopping:
            self._report()

    def _look_for_the_end(self) -> None:
        stand = [lane.standing for lane in self._lanes if not (lane.unwanted and lane.closed.is_set())]
        if self._lanes and not stand and not self._patterns:
            self._stopping = True
        if not all(s.tried for s in stand) or not all(s.looked.is_set() for s in self._scouts):
            return
        if not self._ever:
            return
        if stand and all(s.held for s in stand):
            self._stopping, self._code = True, LOCKED
        elif self._once and all(not s.opened or (s.met and not s.busy and not s.sending) for s in stand):
            self._stopping = True
            if not any(s.opened and s.sees for s in stand):
                self._code = TROUBLE
        elif self._exit_when_done and all(s.opened and s.ended and not s.busy and not s.sending for s in stand):
            self._stopping = True

    def _handle(self, item: tuple[str, Any]) -> None:
        what, told = item
        if what == "signal" and told == signal.SIGHUP:
            self._configure()
        elif what == "signal" and told == signal.SIGUSR1:
            for lane in self._lanes:
                lane.ask()
        elif what == "signal":
            self._stopping = True
        elif what == "named":
            self._meet(*told)
        elif what == "moves" and told.lane is None:
            told.lane = self._take_up(told.base)
        elif what == "over":
            self._let_go(*told)
        elif what == "tick":
            self._ticked, self._figures = time.monotonic(), told
            if not self._once:
                for lane, run in self._opened():
                    self._tidying.heed(lane, told.get(str(run.place.out), {}))
        elif what == "tidy" and not self._once:
            for lane in told:
                self._tidying.ask(lane)

    def _opened(self) -> list[tuple[Lane, Run]]:
        return [(lane, run) for lane in self._lanes if (run := lane.run) is not None and lane.standing.opened]

    # -- runs that patterns name ------------------------------------------------------------------

    def _meet(self, pattern: str, now: Named) -> None:
        """A scout came back: directories that are new, and such that are gone."""
        if now.note != self._notes.get(pattern, ""):
            self._notes[pattern] = now.note
            self._log.warning(now.note or f"{pattern} is watched whole again")
        for base in now.bases:
            if base not in self._candidates and base not in self._bases:
                self._candidates[base] = Candidate(
                    base, self._load, self._pool, self._usual.poll_interval,
                    lambda c: self._queue.put(("moves", c)), lambda c, why: self._queue.put(("over", (c, why))),
                )  # fmt: skip
        if len(self._patterns) == 1 and not now.note:
            for base in self._candidates.keys() - set(now.bases):
                candidate = self._candidates[base]
                if candidate.lane is None or not candidate.lane.standing.opened:
                    self._let_go(candidate, "its directory is gone")
                    self._candidates.pop(base).drop()

    def _let_go(self, candidate: Candidate, why: str) -> None:
        if candidate.lane is not None:
            candidate.lane.close(time.monotonic(), why)
            self._lanes.remove(candidate.lane)
            self._settings.pop(candidate.base, None)
            candidate.lane, self._gone = None, self._gone + 1

    # -- what all runs share ----------------------------------------------------------------------

    def _has_events(self) -> bool:
        return len(self._lanes) <= MANY

    def _is_thrifty(self) -> bool:
        return FILES * len(self._lanes) > self._descriptors

    def _figures_of(self, out: str) -> Mapping[str, float]:
        return self._figures.get(out, {})

    def _host_job(self) -> None:
        try:
            found = survey([run for _, run in self._opened()], self._holders)
        except Exception:
            found = {}  # time has passed all the same
        self._queue.put(("tick", found))

    def _tidying_job(self) -> None:
        self._queue.put(("tidy", [lane for lane, run in self._opened() if has_something(run.place.snapshots)]))

    def _complain(self, error: Exception) -> None:
        self._log.error(f"Internal error: {type(error).__name__}: {error}; please report this")

    def _watch_schedule(self, schedule: Schedule) -> None:
        if self._interval != self._shortest():
            self._interval = self._shortest()
            schedule.restart(self._interval)
        late = time.monotonic() - self._ticked
        if late > LATE_TICKS * self._interval + 5:
            why = "a look at the host hangs; ticks go on without it" if schedule.hanging else "the scheduler is started anew"
            if why != self._said:
                self._log.error(f"No figures of the host for {late:.0f} s: {why}")
            self._said = why
            schedule.restart(self._interval)
            self._handle(("tick", {}))
        elif not schedule.hanging:
            self._said = ""

    def _shortest(self) -> float:
        return min((s.poll_interval for s in self._settings.values()), default=self._usual.poll_interval)

    def _reload(self, base: Path) -> Settings:
        self._settings = {**self._settings, base: (settings := self._load(base))}
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
        runs = [run for _, run in self._opened()]
        alive = now - self._pool.last < RECENT or all(r.outlook.hung for r in runs)
        if not self._ready and self._is_met(runs):
            self._ready = True
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={self._summary(runs)}")
        if self._ready and (not self._frozen or abs(len(self._lanes) - self._frozen) + self._gone > max(MANY, self._frozen // 2)):
            self._freeze()
        if self._ready and alive and self._notifier.interval and now - self._pinged >= self._notifier.interval:
            self._pinged = now
            self._notifier.send("WATCHDOG=1", f"STATUS={self._summary(runs)}")

    def _is_met(self, runs: Sequence[Run]) -> bool:
        tried = all(lane.standing.tried for lane in self._lanes) and all(s.looked.is_set() for s in self._scouts)
        return tried and all(r.met or r.outlook.hung for r in runs)

    def _freeze(self) -> None:
        """What is there now stays: it need not be looked through at every collection, nor copied by a fork."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._frozen, self._gone = max(1, len(self._lanes)), 0

    def _summary(self, runs: Sequence[Run]) -> str:
        blind = [r.outlook.sight.why for r in runs if not r.outlook.sight.ok]
        if blind:
            return f"blind: {blind[0]}" + (f" and {len(blind) - 1} more runs" if len(blind) > 1 else "")
        if len(runs) > 3:
            return f"{len(runs)} runs watched"
        return ", ".join(f"{r.name} at step {r.last_step}" for r in runs) or "waiting"


def share_of_first_tick(number: int) -> float:
    """The share of a poll interval, in (0, 1], after which the first tick of the run of that number is due.

    A thousand runs that are met at once would otherwise all be saved in the same second, and miss what is written in it.
    """
    return 1.0 if number <= MANY else 1.0 - number * SPREAD % 1.0


def _more_descriptors() -> int:
    """Take as many descriptors as we are allowed; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            return soft
    return most
