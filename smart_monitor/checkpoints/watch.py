"""The cheap look: has anything stirred where checkpoints lie, so that a scan is worth its cost?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, Folder

MAX_CANDIDATES = 16
"""Candidates looked at, those that changed last: of older ones a scan of its own accord tells."""
MAX_INSIDE = 4
"""Directories below a candidate looked at."""
MAX_MARKERS = 8
CLOCK_GRAIN = 0.05
"""Seconds within which two changes may leave the same time stamp (a kernel tick is 1 to 10 ms)."""
SKEW = 60.0
"""Seconds by which a time stamp of today may lie in the future; one further off is no time at all."""
_GONE = (0, 0, 0, 0)
_Mark = tuple[int, int, int, int]


class Watch:
    """Marks of a scan, compared by a few dozen stat calls. `stirred` may run in another thread than `set`."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._folders: dict[str, _Mark] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._marks: list[tuple[str, _Mark]] = []

    def set(self, folders: Sequence[Folder], candidates: Sequence[Candidate], began: float) -> None:
        """After a scan that began then (unix seconds): what it found, as it found it."""
        names = {str(folder.path): frozenset(folder.names) for folder in folders}
        places = (str(self._base), str(self._base / "current_model"))
        marks: list[tuple[str, _Mark]] = [(p, _identity(p)) for p in places if p not in names]
        for candidate in sorted(candidates, key=lambda c: c.tree.changed, reverse=True)[:MAX_CANDIDATES]:
            inside = dict[str, None]()
            if candidate.tree.files:
                last = max(candidate.tree.files, key=lambda f: f.stamp.mtime_ns)
                stamp = last.stamp
                marks.append((str(candidate.file(last)), (stamp.dev, stamp.ino, stamp.bytes, stamp.mtime_ns)))
            if not candidate.single:
                inside[str(candidate.path)] = None
                for seen in reversed(candidate.tree.files):
                    inside[str(candidate.file(seen).parent)] = None
            marks += [(path, _before(path, began)) for path in list(inside)[: 1 + MAX_INSIDE]]
        for folder in folders:
            # Files of the writer that name its latest checkpoint are rewritten in place: that changes no directory.
            latest = [f"{folder.path}/{name}" for name in folder.files if name.startswith("latest")][:MAX_MARKERS]
            marks += [(path, _before(path, began)) for path in latest]
        self._names = names
        self._folders = {path: _before(path, began) for path in names}
        self._marks = marks

    def stirred(self) -> bool:
        """Is anything else than it was at the last scan?"""
        for path, mark in self._marks:
            if mark[:2] == (0, 0) and not os.access(path, os.F_OK):
                continue  # still not there, which is told without an exception
            if mark != (_identity(path) if mark[2] == -1 else _mark(path)):
                return True
        names, folders = self._names, self._folders
        for path, mark in list(folders.items()):
            now = _mark(path)
            if now != mark:
                # A status file renamed into place changes the directory as well, and many times a minute.
                try:
                    if frozenset(Folder.read(Path(path)).names) != names[path]:
                        return True
                except OSError:
                    return True
                folders[path] = now
        return False


def _mark(path: str) -> _Mark:
    try:
        info = os.stat(path)
    except OSError:
        return _GONE
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _identity(path: str) -> _Mark:
    """Which directory a path leads to, and nothing of what is in it."""
    return (*_mark(path)[:2], -1, -1)


def _before(path: str, began: float) -> _Mark:
    """A mark that tells a change since the scan began; of what changed since, or so shortly before that a
    further change might leave the same stamp, one that never fits."""
    mark = _mark(path)
    return (*mark[:2], -2, -2) if 0 <= mark[3] / 1e9 - began + CLOCK_GRAIN <= SKEW else mark
