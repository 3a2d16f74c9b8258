"""How fast a copy may go: a rate that was set, and giving way to others who write.

A copy of what is held is never in a hurry; a trainer that saves is, since its processors wait for it. What lies only in the
trainer's directory is another matter: the trainer that saves is just the one who is about to overwrite it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

CHUNK = 8 * 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
MUCH = 32 * 2**20
"""Bytes a second written by others from which we give way: more than logs are, less than any save of a checkpoint."""
LOOK = 0.05
"""Seconds between two looks at what others write."""
AFTERWARDS = 0.5
"""Seconds after the last of it in which their data are still on the way to the disk."""
REST = 3.0
"""Seconds of rest for each second of copying while others write."""
LONGEST = 1.0
"""Seconds of rest at a time."""


class Neighbours:
    """Do others write much? By the kernel's count of pages made dirty (`counters`), less what we wrote ourselves."""

    def __init__(self, counters: str = "/proc/vmstat") -> None:
        self._counters = counters
        self._ours = 0
        self._before = self._dirtied()
        self._looked = time.monotonic()
        self._until = float("-inf")

    def wrote(self, amount: int) -> None:
        """So many bytes were ours."""
        self._ours += amount

    def write_much(self) -> bool:
        """Have they within the last moments? False where nobody counts."""
        now = time.monotonic()
        if self._before is not None and now - self._looked >= LOOK:
            dirtied = self._dirtied()
            if dirtied is not None and dirtied - self._before - self._ours > MUCH * (now - self._looked):
                self._until = now + AFTERWARDS
            self._before, self._looked, self._ours = dirtied, now, 0
        return now < self._until

    def _dirtied(self) -> int | None:
        """Bytes made dirty since the machine started."""
        try:
            with open(self._counters, encoding="ascii") as lines:
                for line in lines:
                    name, _, number = line.partition(" ")
                    if name == "nr_dirtied":
                        return int(number) * PAGE
        except (OSError, ValueError):
            pass  # then nobody is seen
        return None


class Pace:
    """At most `rate` bytes a second on average, 0 = as fast as it goes, and a quarter of that while `neighbours` write
    much and nothing is in a hurry; `alive` is called for every chunk.
    """

    hurry = False
    """Is what goes by now read from where it may be overwritten or deleted any moment?"""

    def __init__(self, rate: float, alive: Callable[[int], None], neighbours: Neighbours | None = None) -> None:
        self.chunk = CHUNK if rate <= 0 else int(max(64 * 2**10, min(CHUNK, rate / 10)))
        self._rate, self._alive, self._neighbours = rate, alive, neighbours
        self._due = self._resumed = time.monotonic()

    def spent(self, amount: int, written: int = 0) -> None:
        """Tell that `amount` bytes went by, of which so many were `written`; sleeps as long as is asked of us, and says
        every second that it lives."""
        self._alive(amount)
        if self._neighbours is not None:
            self._neighbours.wrote(written)
            self._give_way(self._neighbours)
        if self._rate > 0:
            self._due = max(self._due, time.monotonic() - 1.0) + amount / self._rate
            while (pause := self._due - time.monotonic()) > 0:
                time.sleep(min(pause, 1.0))
                self._alive(0)

    def _give_way(self, neighbours: Neighbours) -> None:
        worked = time.monotonic() - self._resumed
        if worked < LOOK:
            return
        rest = REST * worked
        while not self.hurry and neighbours.write_much() and rest > 0:
            pause = min(rest, LONGEST)
            time.sleep(pause)
            self._alive(0)
            self._due += pause  # what was not copied meanwhile is not made up for
            rest -= pause
        self._resumed = time.monotonic()
