"""The lane of one run: all that happens to it, one thing after another, on whichever thread of the pool takes it up.

What its eye saw, time that passes, the user's signals wait here until a thread comes. If that thread hangs, in a write
on a dead mount, it hangs with this run, and the other lanes go on.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.checkpoints.mounts import mount_point
from smart_monitor.config import ConfigError, Settings
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.holding import BEAT
from smart_monitor.daemon.lock import Held
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.pool import NEVER, Pool
from smart_monitor.daemon.run import Run
from smart_monitor.sources import Pass

LOOK_AROUND = 1.0
"""Seconds between two looks for a run's directory, or at what is sent."""
AT_REST = 5.0
"""Seconds that a lane rests at most; whatever is read wakes it."""
CALM = 4.0
"""Seconds for which a run of which nothing is under way is not attended to, whatever wakes its lane."""
EARLY = 0.1
"""Share of a poll interval by which a tick may come sooner, where something else wakes the lane."""
WHILE_COPYING = 0.05
IN_LINE = 0.25
"""Seconds between two tries to begin a copy while others copy, or while a disk or a checkpoint is waited for."""
PATIENCE = 60.0
"""Seconds at most before a run that failed in a way nobody foresaw is taken up again."""
CROWD = 4
"""Passes that may wait to be judged; until there are fewer, no more is read."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How runs are watched: what the command line says of all of them."""

    once: bool = False
    dry: bool = False
    watchdog: Callable[[], bool] = lambda: True
    """May one more run have file-system events?"""
    thrifty: Callable[[], bool] = lambda: False
    """Are there so few descriptors that files are closed between two writes?"""
    figures: Callable[[str], Mapping[str, float]] = lambda _: {}
    """The host's figures for a directory we write to, as last read."""
    changed: Callable[[], None] = lambda: None
    """Told when what is said of a lane (`Standing`) changed."""


class Standing(NamedTuple):
    """How a run stood when a thread last left its lane; read from any thread."""

    tried: bool = False
    """Has it been tried to open it?"""
    held: bool = False
    """Does another monitor hold it?"""
    opened: bool = False
    met: bool = False
    ended: bool = False
    busy: bool = False
    sending: bool = False
    sees: bool = False


class Lane:
    """One run, its queue, and the pool that works on both."""

    def __init__(
        self, base: Path, out: Path | None, load: Callable[[], Settings], pool: Pool, manner: Manner, first: float = 1.0
    ) -> None:
        """`first`: the share of a poll interval after which its first tick is due."""
        self.base = base
        self.standing = Standing()
        self.run: Run | None = None
        """Made by the thread that first opens it: to look at its directory may take for ever."""
        self.heard = time.monotonic()
        """When its trainer last wrote something; monotonic."""
        self.closed = threading.Event()
        self.unwanted = False
        """Was the watching of this run alone stopped? Then it is not taken up again."""
        self._log = Log()  # for what is said before the run has one
        self._out, self._load, self._pool, self._manner = out, load, pool, manner
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._said = self._why = ""
        self._later, self._wait = 0.0, 0.5
        self._ticks, self._first = NEVER, first
        self._ready = self._due = 0.0
        """From when on the run is attended to if something wakes its lane, and when in any case; monotonic."""
        self._end: float | None = None
        self.task = pool.add(self.work, mount_point((out or base).absolute()), NEVER)

    # -- from any thread --------------------------------------------------------------------------

    def start(self) -> None:
        self._pool.wake(self.task)

    def post(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do this when it is its turn."""
        self._queue.append((act, arguments))
        self._pool.wake(self.task)

    def say(self, level: str, text: str) -> None:
        """A line for the run's log."""
        self.post(self._speak, level, text)

    def configure(self) -> None:
        """Read the settings again."""
        self.post(self._configure)

    def ask(self) -> None:
        """Somebody stops runs of this process: this one, too?"""
        self.post(self._heed_stop)

    def close(self, end: float, why: str = "") -> None:
        """Save and let go, for good or because of `why`; a copy under way may end until then. Then `closed` is set."""
        self._why, self._end = why, end
        self._pool.wake(self.task)

    # -- on the thread that has taken it up -------------------------------------------------------

    def work(self) -> float:
        """All there is to do now; the monotonic time at which to look again."""
        if self._end is not None:
            return self._close(self._end)
        now = time.monotonic()
        if (self.run is None or not self.run.opened) and now >= self._later:
            self._open()
        self._do()
        run = self.run
        if run is not None and run.opened and now >= self._ticks - EARLY * run.settings.poll_interval:
            self._tick(run, now)
        if run is not None and run.opened and (run.stirred or now >= self._ready):
            self._attend(run)
        return self._rest(run)

    def _do(self) -> None:
        """What was posted until now."""
        for _ in range(len(self._queue)):
            act, arguments = self._queue.popleft()
            self._guard(act, *arguments)

    def _attend(self, run: Run) -> None:
        """See to what is under way; note how the run stands, and when that is to be done again."""
        now = time.monotonic()
        self._guard(run.attend, now)
        if not run.opened:
            return
        busy, sending = run.keeper.store.busy, run.remote.busy
        self._note(Standing(True, False, True, run.met, run.ended, busy, sending, run.outlook.sight.ok))
        pause = AT_REST
        if busy:
            pause = WHILE_COPYING if run.keeper.store.progress else IN_LINE
        elif run.keeper.holding.restless:
            pause = BEAT
        elif sending or run.news:
            pause = LOOK_AROUND
        self._ready, self._due = now + min(pause, CALM), now + pause

    def _rest(self, run: Run | None) -> float:
        """When to look again, if nobody wakes it."""
        now = time.monotonic()
        if run is None or not run.opened:
            self._note(Standing(tried=True, held=self._said == "held"))
            return max(now + LOOK_AROUND, min(self._later, now + PATIENCE))
        if self._manner.thrifty():
            for file in (run.journal, run.events, run.log):
                file.rest()
        return min(self._ready if run.log.waiting else self._due, self._ticks)

    def _note(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            self._manner.changed()

    def _tick(self, run: Run, now: float) -> None:
        self._ticks = max(now, self._ticks) + run.settings.poll_interval
        if self._is_there(run):
            self._guard(run.tick, dict(self._manner.figures(str(run.place.out))))

    def _deliver(self, eye: Eye, seen: Pass | None) -> None:
        self.post(self._take, eye, seen)

    def _take(self, eye: Eye, seen: Pass | None) -> None:
        run = self.run
        if run is None or not run.opened or run.eye is not eye or not self._is_there(run):
            return
        if seen is None:
            run.keeper.holding.stir()
            run.stirred = True
        else:
            if seen.records or seen.heartbeat:
                self.heard = time.monotonic()
            run.take(seen)

    def _is_crowded(self) -> bool:
        return len(self._queue) > CROWD

    def _is_there(self, run: Run) -> bool:
        if run.present():
            return True
        run.detach("the directory we wrote to is gone")
        return False

    def _speak(self, level: str, text: str) -> None:
        (self.run.log if self.run is not None else self._log).say(level, text)

    def _heed_stop(self) -> None:
        run = self.run
        if run is not None and run.opened and run.place.stop_asked():
            self.unwanted = True
            self.close(time.monotonic() + run.settings.stop_grace)

    def _configure(self) -> None:
        run = self.run
        if run is None:
            return  # it has read them not yet
        try:
            settings = self._load()
        except ConfigError as error:
            run.log.warning(f"The configuration can't be used and the old one stays: {error}")
            return
        run.configure(settings)
        run.log.info("Configuration read again")

    def _guard(self, act: Callable[..., None], *arguments: Any) -> None:
        """A misfortune foreseen by nobody is not the end of it: the run is begun again from its journal."""
        try:
            act(*arguments)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(last.filename)}:{last.lineno}"
            self._speak("ERROR", f"Internal error: {type(error).__name__}: {error} ({where}); please report this")
            self._wait = min(PATIENCE, 2 * self._wait)
            self._later = time.monotonic() + self._wait
            if self.run is not None and self.run.opened:
                self.run.detach("watching failed and is begun again from the journal")

    def _open(self) -> None:
        """Open the run if it can be; else say why, once."""
        base, why = self.base, ""
        try:
            if self.run is None:
                self.run = self._made()
            self.run.open(self._deliver, self._pool, self._is_crowded)
            self._said, self._ticks = "", time.monotonic() + self._first * self.run.settings.poll_interval
        except Held as error:
            why = str(error)
            self._say(why, error=True, about="held")
        except ConfigError as error:
            why = str(error)
            self._later = time.monotonic() + AT_REST
            self._say(f"{base} is not watched: {why}", error=True)
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else str(base)
            why = f"{error.strerror or error}: {where}"
            self._say(f"Waiting for {base} ({why})", error=not isinstance(error, FileNotFoundError))
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self._later = time.monotonic() + PATIENCE
            self._say(f"Internal error while opening {base}: {why}; please report this", error=True)
        if why and self.run is not None:
            self.run.outlook.lose(why)

    def _made(self) -> Run:
        settings, manner = self._load(), self._manner
        place = Place(self.base, self._out)
        return Run(place, settings, Log(), judge_all=manner.once, dry=manner.dry, watchdog=manner.watchdog())

    def _say(self, sentence: str, *, error: bool, about: str = "") -> None:
        """Once until something else is to be said; `about`: whatever the words (a holder on its way out has no name)."""
        if self._said != (about or sentence):
            self._said = about or sentence
            (self._log.error if error else self._log.info)(sentence)

    def _close(self, end: float) -> float:
        self._do()
        run = self.run
        if run is not None and run.opened:
            run.rests = self._why
            self._guard(run.close, max(0.0, end - time.monotonic()))
        self._pool.remove(self.task)
        self.run = None
        self.standing = Standing(tried=True)
        self.closed.set()
        self._manner.changed()
        return NEVER
