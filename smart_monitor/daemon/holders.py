"""Who holds a run's files open for writing: the trainer, where nobody tells its pid.

A sweep over /proc/*/fd costs tens of milliseconds on a busy machine, so there is one for all runs, seldom, in slices,
and only while some run seeks its process. Only processes of our own user are looked at (as root, all).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from smart_monitor.daemon.process import look

SLICE = 0.02
"""Seconds that one look may take."""
NEWCOMER, AGAIN, SELDOM = 5.0, 30.0, 600.0
"""Seconds between two sweeps: where somebody new seeks, at first, and at most where they find nothing."""
WRITES = os.O_WRONLY | os.O_RDWR


class Holders:
    """Paths asked about -> the process that writes them. On one thread; answers may be read from any."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._asked: frozenset[str] = frozenset()
        self._sweep: Iterator[tuple[str, int]] | None = None
        self._met: dict[str, list[int]] = {}
        self._due, self._ended = 0.0, -NEWCOMER
        self._pause = AGAIN
        self.swept = 0
        """Sweeps made."""

    def of(self, paths: Iterable[str]) -> int | None:
        """The process that the last sweep found to write one of `paths`."""
        found = self._found
        return next((found[path] for path in paths if path in found), None)

    def attend(self, paths: Iterable[str]) -> None:
        """Look on for who writes `paths` (real paths), if it is time to."""
        asked = frozenset(paths)
        if not asked:
            self._sweep = None
            return
        now = time.monotonic()
        if not asked <= self._asked:
            self._due, self._pause, self._sweep = min(self._due, self._ended + NEWCOMER), AGAIN, None
        self._asked = asked
        if self._sweep is None:
            if now < self._due:
                return
            self._sweep, self._met = _writers(asked), {}
        for path, pid in self._sweep:
            if path:
                self._met.setdefault(path, []).append(pid)
            if time.monotonic() - now > SLICE:
                return
        self._sweep = None
        self.swept += 1
        fresh = {path: oldest(pids) for path, pids in self._met.items()}
        self._pause = AGAIN if fresh.keys() - self._found.keys() else min(2 * self._pause, SELDOM)
        self._found, self._due, self._ended = fresh, now + self._pause, now


def _writers(paths: frozenset[str]) -> Iterator[tuple[str, int]]:
    """(path, pid) of each process that writes one of `paths`; ("", pid) for each that does not."""
    ours, me = os.geteuid(), os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == me:
            continue
        place = f"/proc/{name}/fd"
        try:
            if ours and os.stat(f"/proc/{name}").st_uid != ours:
                continue
            held = os.listdir(place)
        except OSError:
            continue
        for number in held:
            try:
                path = os.readlink(f"{place}/{number}")
            except OSError:
                continue
            if path in paths and _writes(name, number):
                yield path, int(name)
        yield "", int(name)


def _writes(pid: str, number: str) -> bool:
    """Is the descriptor open for writing? Those who only read (tail, less, we) are not the trainer."""
    try:
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            for line in file:
                if line.startswith("flags:"):
                    return bool(int(line.split()[1], 8) & WRITES)
    except (OSError, ValueError, IndexError):
        pass  # it has ended meanwhile
    return False


def oldest(pids: Iterable[int]) -> int:
    """Of processes that hold one file the one that the others came from: workers inherit what a trainer has open."""
    seen = {p.pid: p for pid in pids if (p := look(pid)) is not None}
    heads = [p for p in seen.values() if p.parent not in seen] or list(seen.values())
    return min(heads, key=lambda p: (p.started, p.pid)).pid if heads else 0
