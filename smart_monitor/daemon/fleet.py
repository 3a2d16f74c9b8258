"""Runs that a pattern names: looked for again and again, taken up when they move, let go when they are over.

What was not written for a day, or holds nothing that can be read, rests: a few stats every poll interval tell whether it
moves. A look that hangs holds up only the directory, or the pattern, that it is about.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from smart_monitor.checkpoints.mounts import mount_point
from smart_monitor.config import ConfigError, Settings
from smart_monitor.daemon.lane import Lane
from smart_monitor.daemon.named import MOST, Named, named
from smart_monitor.daemon.pool import NEVER, Pool
from smart_monitor.discovery import Found, find
from smart_monitor.following import options_of
from smart_monitor.sources.status_json import FILE_NAME

STILL = 86_400.0
"""Seconds without a change after which a run rests."""
OVER = 3
"""Poll intervals after its end for which a run is still watched: some trainers go on."""
SELDOM = 30
"""Poll intervals between two thorough looks into a directory in which nothing seems to stir."""
FILES = 16
"""Files of one place whose stamps are compared."""
NEAR = 32
"""Directories of a run in which something new is noticed at once: many trainers make some for each of their starts."""

_WILD = re.compile(r"[*?\[]")
_Stamp = tuple[tuple[str, int, int], ...]


def anchor(pattern: str) -> Path:
    """The directory above the first wildcard: where looking for the runs may hang."""
    parts = Path(os.path.abspath(os.path.expanduser(pattern))).parts
    fixed = next((n for n, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return Path(*parts[:fixed])


class Scout:
    """Looks again and again for the directories that one pattern names."""

    def __init__(self, pattern: str, pool: Pool, pace: float, tell: Callable[[str, Named], None]) -> None:
        self.pattern, self._pace, self._tell = pattern, pace, tell
        self.looked = threading.Event()
        self.task = pool.add(self.work, str(mount_point(anchor(pattern))))

    def work(self) -> float:
        self._tell(self.pattern, named(self.pattern))
        self.looked.set()
        return time.monotonic() + self._pace


class Candidate:
    """A directory that a pattern names. All that is given to it is called from the pool's threads; `load`: see `Daemon`."""

    def __init__(
        self, base: Path, load: Callable[[Path], Settings], pool: Pool, pace: float, take_up: Callable[[Candidate], None],
        let_go: Callable[[Candidate, str], None],
    ) -> None:  # fmt: skip
        self.base, self._load, self._pace = base, load, pace
        self.lane: Lane | None = None
        """Its lane while it is watched; set by who takes it up."""
        self._pool, self._take_up, self._let_go = pool, take_up, let_go
        self._stamp: _Stamp = ()
        self._files: list[str] = []
        self._found: Found | None = None
        self._written = 0.0
        self._asked = False
        self._looks = 0
        self._over: float | None = None
        self.task = pool.add(self.work, mount_point(base))

    def drop(self) -> None:
        """The pattern names it no more."""
        self._pool.remove(self.task)

    def work(self) -> float:
        if self.lane is None:
            self._rest()
        elif why := self._is_over(self.lane):
            self._asked, self._over = False, None
            self._look()  # only what comes after this is a movement
            self._let_go(self, why)
        return time.monotonic() + self._pace if not self.task.gone else NEVER

    # -- while it rests ---------------------------------------------------------------------------

    def _rest(self) -> None:
        if self._asked:
            return
        self._looks += 1
        first = self._looks == 1
        if self._found is None or self._looks % SELDOM == 0 or _stamps(self._files) != self._stamp or self._found.moved_on(NEAR):
            before = self._written
            self._look()
            if self._written > before and (not first or self._written > time.time() - STILL):
                self._asked = True
                self._take_up(self)

    def _look(self) -> None:
        """Look thoroughly: what can be read here, and when it was last written."""
        try:
            settings = self._load(self.base)
        except ConfigError:
            settings = Settings()  # whoever takes it up says what is wrong with its own
        self._found = find(self.base, only=settings.source, options=options_of(settings))
        chosen = self._found.chosen
        # Written in place, a status changes no directory.
        self._files = [str(self.base), *(f"{self.base}/{name}" for name in (FILE_NAME, "status", f"status/{FILE_NAME}"))]
        for seen in chosen:
            self._files += _files_of(seen.place)
        self._stamp = _stamps(self._files)
        self._written = max([self._written, *(seen.written for seen in chosen)])

    # -- while it is watched ----------------------------------------------------------------------

    def _is_over(self, lane: Lane) -> str:
        """Why it can be let go; empty while it can't."""
        stand, now = lane.standing, time.monotonic()
        if not stand.opened or stand.busy or stand.sending:
            return ""
        if not stand.ended:
            self._over = None
            heard = lane.heard
            return "nothing has stirred in it for a day" if now - heard > STILL else ""
        self._over = now if self._over is None else self._over
        return "the run is over" if now - self._over > OVER * self._pace else ""


def _files_of(place: Path) -> Iterator[str]:
    """A file, or the files in a directory that changed last, and itself."""
    yield str(place)
    try:
        with os.scandir(place) as listed:
            files = [(e.stat().st_mtime_ns, e.path) for e in islice(listed, MOST) if e.is_file()]
    except OSError:
        return
    yield from (path for _, path in sorted(files, reverse=True)[:FILES])


def _stamps(paths: list[str]) -> _Stamp:
    found = []
    for path in paths:
        try:
            info = os.stat(path)
        except OSError:
            continue
        found.append((path, info.st_mtime_ns, info.st_size))
    return tuple(found)
