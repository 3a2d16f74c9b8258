"""The eye: reads one source of one run and does nothing else.

The stat every 0.5 s is the truth; a wake only makes it come sooner. The reads happen in the pool, apart from what
judges and writes: a hung mount stops one thread there and not the daemon, which notices that the pass does not return.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from smart_monitor.daemon.pool import NEVER, Pool, Task
from smart_monitor.sources import Cursor, Pass, Sight, Source, Steady

SAMPLE = 0.5
CROWDED = 0.05
"""Seconds after which to look again while what was delivered has not been judged yet."""


class Eye:
    """Looks at `source` from `cursor` on and delivers every pass that changed something.

    `glance` is asked as well each time; where it says that something stirred, None is delivered. While `crowded`,
    nothing is read: whoever judges is behind.
    """

    def __init__(
        self,
        source: Source,
        cursor: Cursor,
        deliver: Callable[[Eye, Pass | None], None],
        glance: Callable[[], bool] = lambda: False,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self.source = source
        self._steady = source if isinstance(source, Steady) else None
        self.passes = 0
        """Passes completed since the start."""
        self.last_pass = time.monotonic()
        """Monotonic seconds at which the last pass was completed."""
        self.changes = 0
        """Passes that found a change; compared with the number of wakes by who watches the watcher."""
        self.wakes = 0
        self._woken = False
        """Did somebody say that there is something to be read?"""
        self._cursor = cursor
        self._deliver, self._glance, self._crowded = deliver, glance, crowded
        self._last: tuple[Sight, bool] | None = None
        self._pool: Pool | None = None
        self._task: Task | None = None
        self._closed = False

    def start(self, pool: Pool, place: str) -> None:
        """Look from now on, on the threads of the pool; `place`: the mount that may hang."""
        self.last_pass = time.monotonic()
        self._pool, self._task = pool, pool.add(self.work, place)

    def wake(self) -> None:
        """Look now. From any thread."""
        self.wakes += 1
        self._woken = True
        if self._pool is not None and self._task is not None:
            self._pool.wake(self._task)

    def close(self) -> None:
        self._closed = True
        if self._pool is not None and self._task is not None:
            self._pool.remove(self._task)

    def work(self) -> float:
        """One look; the monotonic time of the next."""
        if self._closed:
            return NEVER
        if self._crowded():
            self.last_pass = time.monotonic()
            return self.last_pass + CROWDED
        try:
            if self._is_unmoved():
                return self._rest(None)
            seen = self.look()
        except Exception as error:
            # A source never raises; if one does all the same, that is said, and the next look may be better.
            why = f"Reading failed: {type(error).__name__}: {error}"
            seen = Pass(self._cursor, Sight(False, why, ""))
            self._report(seen)
        return self._rest(seen.retry_in)

    def _is_unmoved(self) -> bool:
        """Is this one of the many looks that bring nothing? Then it was a pass as well."""
        woken, self._woken = self._woken, False
        now = time.monotonic()
        if self._steady is None or self._last is None or woken or not self._steady.unmoved(self._cursor, now):
            return False
        self.passes += 1
        self.last_pass = now
        return True

    def _rest(self, retry_in: float | None) -> float:
        """Ask whether anything stirred elsewhere; the monotonic time of the next look."""
        if self._glance() and not self._closed:
            self._deliver(self, None)
        return time.monotonic() + (SAMPLE if retry_in is None else min(retry_in, SAMPLE))

    def look(self) -> Pass:
        """One pass, delivered if it changed anything."""
        seen = self.source.read(self._cursor, time.time(), time.monotonic())
        self._report(seen)
        return seen

    def _report(self, seen: Pass) -> None:
        self._cursor = seen.cursor
        look = seen.sight, seen.torn
        changed, self._last = look != self._last, look
        written = bool(seen.records or seen.heartbeat)
        self.changes += written
        self.passes += 1
        self.last_pass = time.monotonic()
        # A cursor that moved and brought nothing is not worth a wake: from the older one, the same is read.
        if (changed or written or seen.oddities or seen.news) and not self._closed:
            self._deliver(self, seen)
