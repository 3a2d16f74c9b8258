"""The eye: a thread that reads one source of one run and does nothing else.

The stat every 0.5 s is the truth; a wake only makes it come sooner. Because the reads happen here, a
hung mount stops this thread and not the daemon, which notices that the last pass does not return.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from smart_monitor.sources import Cursor, Pass, Sight, Source

SAMPLE = 0.5


class Eye(threading.Thread):
    """Looks at `source` from `cursor` on and delivers every pass that changed something.

    `glance` is asked as well each time; where it says that something stirred, None is delivered.
    """

    def __init__(
        self,
        source: Source,
        cursor: Cursor,
        deliver: Callable[[Eye, Pass | None], None],
        glance: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(name=f"eye-{source.name}", daemon=True)
        self.source = source
        self.passes = 0
        """Passes completed since the start."""
        self.last_pass = time.monotonic()
        """Monotonic seconds at which the last pass was completed."""
        self.changes = 0
        """Passes that found a change; compared with the number of wakes by who watches the watcher."""
        self.wakes = 0
        self._cursor = cursor
        self._deliver, self._glance = deliver, glance
        self._last: tuple[Sight, bool] | None = None
        self._woken = threading.Event()
        self._closed = False

    def wake(self) -> None:
        """Look now. From any thread."""
        self.wakes += 1
        self._woken.set()

    def close(self) -> None:
        self._closed = True
        self._woken.set()

    def run(self) -> None:
        while not self._closed:
            self._woken.clear()
            try:
                seen = self.look()
            except Exception as error:
                # A source never raises; if one does all the same, that is said, and the next look may be better.
                why = f"Reading failed: {type(error).__name__}: {error}"
                seen = Pass(self._cursor, Sight(False, why, ""))
                self._report(seen)
            self._look_beside()
            self._woken.wait(SAMPLE if seen.retry_in is None else min(seen.retry_in, SAMPLE))

    def look(self) -> Pass:
        """One pass, delivered if it changed anything."""
        seen = self.source.read(self._cursor, time.time(), time.monotonic())
        self._report(seen)
        return seen

    def _look_beside(self) -> None:
        if self._glance() and not self._closed:
            self._deliver(self, None)

    def _report(self, seen: Pass) -> None:
        self._cursor = seen.cursor
        look = seen.sight, seen.torn
        changed, self._last = look != self._last, look
        written = bool(seen.records or seen.heartbeat)
        self.changes += written
        self.passes += 1
        self.last_pass = time.monotonic()
        # A cursor that moved and brought nothing is not worth a wake: from the older one, the same is read.
        if (changed or written or seen.oddities) and not self._closed:
            self._deliver(self, seen)
