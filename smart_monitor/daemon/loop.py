"""The daemon's main thread: one queue, one engine a run, every write."""

from __future__ import annotations

import gc
import os
import queue
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from smart_monitor.config import ConfigError, Settings
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.holders import Holders
from smart_monitor.daemon.holding import BEAT
from smart_monitor.daemon.lock import Held
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.run import Run
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.sd_notify import Notifier
from smart_monitor.daemon.survey import survey
from smart_monitor.daemon.tidying import Tidying
from smart_monitor.sources import Pass

FINE, TROUBLE, LOCKED = 0, 1, 3
LOOK_AROUND = 1.0
"""Seconds between two looks for a run's directory, or for what must soon be written."""
AT_REST = 5.0
"""Seconds that the main thread sleeps at most while every run is watched; whatever is read wakes it."""
WHILE_COPYING = 0.05
LATE_TICKS = 3
RECENT = 3.0
"""Seconds within which an eye that lives has looked."""
MANY = 32
"""Runs above which there are no file-system events: each run would cost an inotify instance, of which there are few."""
PATIENCE = 60.0
"""Seconds at most before a run that failed in a way nobody foresaw is taken up again."""


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
        self._queue: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()
        self._settings = {base: load(base) for base in bases}
        self._runs: list[Run] = []
        self._log = Log()
        self._notifier = Notifier()
        self._tidying, self._holders = Tidying(), Holders()
        self._stopping = self._ready = False
        self._code = FINE
        self._ticked = time.monotonic()
        self._pinged = 0.0
        self._said: dict[Path, str] = {}
        self._later: dict[Path, tuple[float, float]] = {}
        self._interval = self._shortest()

    def run(self) -> int:
        """Watch. Returns the exit code: 0, 1 if --once found nothing to read, 3 if other monitors hold every run."""
        with ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                previous = signal.signal(number, lambda n, _: self._queue.put(("signal", n, None)))
                stack.callback(signal.signal, number, previous)
            for base, settings in self._settings.items():
                place = Place(base, self._dry_out(stack) if self._dry else self._out)
                watchdog = len(self._settings) <= MANY
                self._runs.append(Run(place, settings, Log(), judge_all=self._once, dry=self._dry, watchdog=watchdog))
            self._open_all()
            hours = min(s.prune_hours for s in self._settings.values())
            schedule = Schedule(self._host_job, self._interval, lambda: self._queue.put(("tidy", None, None)), hours)
            stack.callback(schedule.close)
            # What is there now stays: it need not be looked through at every collection, nor copied by a fork.
            gc.collect()
            gc.freeze()
            while not self._stopping:
                self._turn(schedule)
            self._close_all()
        return self._code

    @staticmethod
    def _dry_out(stack: ExitStack) -> Path:
        import tempfile  # not for the daemon that stays

        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smart-monitor-dry-")))

    def _close_all(self) -> None:
        self._notifier.send("STOPPING=1")
        self._tidying.close()
        end = time.monotonic() + max(s.stop_grace for s in self._settings.values())
        for run in self._runs:
            if run.opened:
                self._guard(run, run.close, max(0.0, end - time.monotonic()))

    # -- one turn of the loop ---------------------------------------------------------------------

    def _turn(self, schedule: Schedule) -> None:
        try:
            item = self._queue.get(timeout=self._sleep())
            while True:
                self._handle(item, schedule)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        self._open_all()
        now = time.monotonic()
        for run in self._runs:
            if run.opened:
                self._guard(run, run.attend, now)
        self._tidying.attend()
        self._watch_schedule(schedule)
        self._report()
        if self._once and all(not r.opened or (r.met and not r.busy and not r.sending) for r in self._runs):
            self._stopping = True
            if not any(r.opened and r.outlook.sight.ok for r in self._runs):
                self._code = self._code or TROUBLE
        if self._exit_when_done and all(r.opened and r.ended and not r.busy and not r.sending for r in self._runs):
            self._stopping = True

    def _sleep(self) -> float:
        if any(r.busy for r in self._runs):
            return WHILE_COPYING
        if any(r.opened and r.keeper.holding.restless for r in self._runs):
            return BEAT
        if self._tidying.busy or any(not r.opened or r.log.waiting or r.sending for r in self._runs):
            return LOOK_AROUND
        return min(AT_REST, self._notifier.interval or AT_REST)

    def _handle(self, item: tuple[str, Any, Any], schedule: Schedule) -> None:
        what, first, second = item
        if what == "signal":
            if first == signal.SIGHUP:
                self._reload(schedule)
            else:
                self._stopping = True
        elif what == "pass":
            for run in self._runs:
                if run.opened and run.eye is first and self._still_there(run):
                    if second is None:
                        run.keeper.holding.stir()
                    else:
                        self._guard(run, run.take, second)
        elif what == "tick":
            self._ticked = time.monotonic()
            for run in self._runs:
                if run.opened and self._still_there(run):
                    found = second.get(str(run.place.out), {})
                    self._guard(run, run.tick, dict(found))
                    if not self._once:
                        self._tidying.heed(run, found)
        elif what == "tidy" and not self._once:
            for run in self._runs:
                self._tidying.ask(run)

    def _deliver(self, eye: Eye, seen: Pass | None) -> None:
        self._queue.put(("pass", eye, seen))

    def _host_job(self) -> None:
        try:
            found = survey([r for r in self._runs if r.opened], self._holders)
        except Exception:
            found = {}  # time has passed all the same
        self._queue.put(("tick", None, found))

    def _guard(self, run: Run, act: Callable[..., None], *arguments: Any) -> None:
        """One run's misfortune, foreseen by nobody, is neither the daemon's end nor the other runs'."""
        try:
            act(*arguments)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}:{last.lineno}"
            run.log.error(f"Internal error: {type(error).__name__}: {error} ({where}); please report this")
            now = time.monotonic()
            wait = min(PATIENCE, 2 * self._later.get(run.place.base, (0.0, 0.5))[1])
            self._later[run.place.base] = now + wait, wait
            if run.opened:
                run.detach("watching failed and is begun again from the journal")

    def _still_there(self, run: Run) -> bool:
        if run.present():
            return True
        run.detach("the directory we wrote to is gone")
        return False

    def _open_all(self) -> None:
        """Open what is not open and can be. If other monitors hold all that is there, this one ends."""
        held = 0
        for run in self._runs:
            base = run.place.base
            if run.opened or time.monotonic() < self._later.get(base, (0.0, 0.0))[0]:
                continue
            why = ""
            try:
                run.open(self._deliver)
                self._said.pop(base, None)
            except Held as error:
                held += 1
                why = str(error)
                self._say(base, why, error=True, about="held")
            except OSError as error:
                where = error.filename if isinstance(error.filename, str) else str(run.place.out)
                why = f"{error.strerror or error}: {where}"
                self._say(base, f"Waiting for {base} ({why})", error=not isinstance(error, FileNotFoundError))
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                self._later[base] = time.monotonic() + PATIENCE, PATIENCE
                self._say(base, f"Internal error while opening {base}: {why}; please report this", error=True)
            if why:
                run.outlook.lose(why)
        if held and held == len(self._runs):
            self._stopping, self._code = True, LOCKED

    def _say(self, base: Path, sentence: str, *, error: bool, about: str = "") -> None:
        """Once until something else is to be said; `about`: whatever the words (a holder on its way out has no name)."""
        if self._said.get(base) != (about or sentence):
            self._said[base] = about or sentence
            (self._log.error if error else self._log.info)(sentence)

    def _watch_schedule(self, schedule: Schedule) -> None:
        late = time.monotonic() - self._ticked
        if late > LATE_TICKS * self._interval + 5:
            why = "a look at the host hangs; ticks go on without it" if schedule.hanging else "the scheduler is started anew"
            self._say(Path(), f"No tick for {late:.0f} s: {why}", error=True)
            schedule.restart(self._interval)
            self._handle(("tick", None, {}), schedule)
        elif not schedule.hanging:
            self._said.pop(Path(), None)

    def _shortest(self) -> float:
        return min(s.poll_interval for s in self._settings.values())

    def _reload(self, schedule: Schedule) -> None:
        self._notifier.reloading()
        for run in self._runs:
            try:
                settings = self._load(run.place.base)
            except ConfigError as error:
                run.log.warning(f"The configuration can't be used and the old one stays: {error}")
                continue
            self._settings[run.place.base] = settings
            self._guard(run, run.configure, settings)
            run.log.info("Configuration read again")
        if self._interval != self._shortest():
            self._interval = self._shortest()
            schedule.restart(self._interval)
        self._notifier.send("READY=1")

    def _report(self) -> None:
        """Tell systemd: ready after the first pass over every run, alive only if passes return.

        A run whose read hangs is known to be blind and says so; starting anew would not mend its mount.
        """
        now = time.monotonic()
        opened = [r for r in self._runs if r.opened]
        alive = all(r.outlook.hung or (r.eye is not None and now - r.eye.last_pass < RECENT) for r in opened)
        if not self._ready and all(r.met or r.outlook.hung for r in opened):
            self._ready = True
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}")
        if self._ready and alive and self._notifier.interval and now - self._pinged >= self._notifier.interval:
            self._pinged = now
            blind = [r.outlook.sight.why for r in self._runs if not r.outlook.sight.ok]
            steps = ", ".join(f"{r.name} at step {r.last_step}" for r in opened)
            self._notifier.send("WATCHDOG=1", f"STATUS={'blind: ' + blind[0] if blind else steps or 'waiting'}")
