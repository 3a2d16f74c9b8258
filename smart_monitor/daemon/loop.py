"""The daemon's main thread: one queue, one engine a run, every write."""

from __future__ import annotations

import os
import queue
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from smart_monitor.config import ConfigError, Settings
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.host import figures
from smart_monitor.daemon.lock import Held
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.run import Run
from smart_monitor.daemon.schedule import Schedule
from smart_monitor.daemon.sd_notify import Notifier
from smart_monitor.sources import Pass

FINE, LOCKED = 0, 3
LOOK_AROUND = 1.0
WHILE_COPYING = 0.05
LATE_TICKS = 3


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
        self._notifier = Notifier()
        self._log = Log()
        self._stopping = False
        self._ready = False
        self._ticked = time.monotonic()
        self._interval = min(s.poll_interval for s in self._settings.values())

    def run(self) -> int:
        """Watch. Returns the exit code: 0, or 3 if another monitor holds the (only) run."""
        with ExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                previous = signal.signal(number, lambda n, _: self._queue.put(("signal", n, None)))
                stack.callback(signal.signal, number, previous)
            for base, settings in self._settings.items():
                out = self._out
                if self._dry:
                    out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smart-monitor-dry-")))
                self._runs.append(Run(Place(base, out), settings, Log(), judge_all=self._once, dry=self._dry))
            if not self._open_all(first=True):
                return LOCKED
            schedule = Schedule(self._host_job, self._interval)
            stack.callback(schedule.close)
            while not self._stopping:
                self._turn(schedule)
            self._notifier.send("STOPPING=1")
            grace = max(s.stop_grace for s in self._settings.values())
            for run in self._runs:
                if run.opened:
                    run.close(grace)
        return FINE

    # -- one turn of the loop ---------------------------------------------------------------------

    def _turn(self, schedule: Schedule) -> None:
        busy = any(r.opened and r.store.busy for r in self._runs)
        try:
            item = self._queue.get(timeout=WHILE_COPYING if busy else LOOK_AROUND)
            while True:
                self._handle(*item)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        self._open_all(first=False)
        for run in self._runs:
            if run.opened:
                run.pump()
        self._watch_schedule(schedule)
        self._report()
        if self._once and all(not r.opened or (r.met and not r.store.busy) for r in self._runs):
            self._stopping = True
        if self._exit_when_done and self._runs and all(r.opened and r.ended and not r.store.busy for r in self._runs):
            self._stopping = True

    def _handle(self, what: str, first: Any, second: Any) -> None:
        if what == "signal":
            if first == signal.SIGHUP:
                self._reload()
            else:
                self._stopping = True
        elif what == "pass":
            for run in self._runs:
                if run.opened and run.eye is first and self._still_there(run):
                    run.take(second)
        elif what == "tick":
            self._ticked = time.monotonic()
            for run in self._runs:
                if run.opened and self._still_there(run):
                    run.tick(dict(second))

    def _deliver(self, eye: Eye, seen: Pass) -> None:
        self._queue.put(("pass", eye, seen))

    def _host_job(self) -> None:
        self._queue.put(("tick", None, figures(next((r.place.out for r in self._runs if r.opened), Path("/")))))

    def _still_there(self, run: Run) -> bool:
        if run.present():
            return True
        run.detach("the directory we wrote to is gone")
        return False

    def _open_all(self, *, first: bool) -> bool:
        """Open what is not open and can be; False if at the start everything is held by others."""
        held = 0
        for run in self._runs:
            if run.opened:
                continue
            try:
                run.open(self._deliver)
            except Held as error:
                held += 1
                if first:
                    self._log.error(str(error))
                else:
                    self._stopping = True
                    self._log.error(f"{error} This one stops.")
            except OSError as error:
                if first or run.sight.why == "not looked yet":
                    self._log.info(f"Waiting for {run.place.base}: {error.strerror}")
                run.sight = run.sight.__class__(False, f"{run.place.base}: {error.strerror}", str(run.place.base))
                if self._once:
                    self._stopping = True
        return not first or held < len(self._runs)

    def _watch_schedule(self, schedule: Schedule) -> None:
        late = time.monotonic() - self._ticked
        if late > LATE_TICKS * self._interval + 5:
            self._log.warning(f"No tick for {late:.0f} s; the scheduler is started anew")
            self._ticked = time.monotonic()
            schedule.restart(self._interval)

    def _reload(self) -> None:
        self._notifier.reloading()
        for run in self._runs:
            try:
                settings = self._load(run.place.base)
            except ConfigError as error:
                run.log.warning(f"The configuration can't be used and the old one stays: {error}")
                continue
            self._settings[run.place.base] = settings
            if run.opened:
                run.configure(settings)
            else:
                run.settings = settings
            run.log.info("Configuration read again")
        self._notifier.send("READY=1")

    def _report(self) -> None:
        """Tell systemd: ready after the first pass over every run, alive only if passes return."""
        opened = [r for r in self._runs if r.opened]
        if not self._ready and all(r.met for r in opened):
            self._ready = True
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}")
        if not self._ready:
            return
        now = time.monotonic()
        if all(now - r.eye.last_pass < 3 * LOOK_AROUND for r in opened):
            blind = [r.sight.why for r in self._runs if not r.sight.ok]
            if self._notifier.interval and now - self._pinged >= self._notifier.interval:
                self._pinged = now
                steps = ", ".join(f"{r.name} at step {r.last_step}" for r in opened)
                self._notifier.send("WATCHDOG=1", f"STATUS={'blind: ' + blind[0] if blind else steps or 'waiting'}")

    _pinged = 0.0
