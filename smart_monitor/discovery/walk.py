"""Walking a run's directory, bounded; and telling at little cost whether a walk would meet anything else by now."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from smart_monitor.names import clean
from smart_monitor.sources import Format, formats
from smart_monitor.sources.files import identity_of

MAX_DEPTH = 6
MAX_ENTRIES = 50_000
MAX_SECONDS = 5.0
MAX_MARKS = 2000
"""Directories and files whose change is noticed."""
SETTLED = 1.0
"""Seconds after which a directory's time tells of every later change."""

_OURS = re.compile(r"snapshots|anomalies|\.smart_monitor|\.partial-.*|.*\.monitor|anomaly_\d{8}_\d{6}_.*")
_OUR_LOG = re.compile(r"smart_monitor_\d{8}\.log")
_OUR_RECORDS = re.compile(r"anomalies_rank_\d+\.jsonl")
_OUR_FILES = re.compile(rf"{_OUR_LOG.pattern}|{_OUR_RECORDS.pattern}|events\.jsonl")
"""In a directory of our logs."""
_STRANGE = frozenset({"node_modules", "__pycache__", "site-packages"})
# Compiled here, since a search rests for a thousand times what it took.
_KNOWN = re.compile("|".join(fnmatch.translate(pattern) for described in formats() for pattern in described.patterns))
"""The names of files that some format may read."""


class Marks:
    """What was met, so that it can be asked whether there may be something else by now."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[int], int | None]] = {}
        """Path -> its identity, empty where that can't tell; and for a directory the digest of what it lists for us."""

    def file(self, path: str) -> None:
        """A file that was left out: if it is written, it may be wanted."""
        try:
            self._put(path, identity_of(os.stat(path)), None)
        except OSError:
            self._put(path, [], None)

    def directory(self, path: str, found: os.stat_result | None, listed: Iterable[str] | None) -> None:
        """A directory, its stat from before it was listed, and what of it was worth a look; None where that is not known."""
        settled = found is not None and time.time() - found.st_mtime > SETTLED
        digest = None if listed is None else hash(tuple(listed))
        self._put(path, identity_of(found) if found is not None and settled else [], digest)

    def moved_on(self, most: int = MAX_MARKS) -> bool:
        """A stat of each; a directory that changed is listed, for a file that is replaced at every step is nothing new.

        `most`: only so many are asked, those nearest to where the walk began.
        """
        for path, (before, digest) in list(islice(self._known.items(), most)):
            try:
                found = os.stat(path)
                if identity_of(found) == before:
                    continue
                if digest is None:
                    return True
                worth = [name for _, name in _worth(_listed(path))]
                if hash(tuple(worth)) != digest:
                    return True
                self.directory(path, found, worth)
            except OSError:
                return True
        return False

    def _put(self, path: str, identity: list[int], digest: int | None) -> None:
        if path in self._known or len(self._known) < MAX_MARKS:
            self._known[path] = identity, digest


def walk(base: Path, marks: Marks, notes: list[str], clock: Callable[[], float]) -> Iterator[tuple[Path, float]]:
    """(path, modification time) of the files below `base` that may be somebody's metrics, the nearest first.

    What was met is put into `marks`, what was not looked at into `notes`, in sentences.
    """
    deadline, entries, deep = clock() + MAX_SECONDS, 0, False
    todo: list[tuple[str, int]] = [(str(base), 0)]
    while todo:
        directory, depth = todo.pop(0)
        try:
            before = os.stat(directory)
            here = _listed(directory)
        except OSError:
            marks.directory(directory, None, None)
            continue
        entries += len(here)
        worth = _worth(here)
        marks.directory(directory, before, [name for _, name in worth])
        for entry, _ in worth:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path), entry.stat().st_mtime
                elif depth < MAX_DEPTH:
                    todo.append((entry.path, depth + 1))
                else:
                    deep = True
            except OSError:
                continue
        if entries > MAX_ENTRIES or clock() > deadline:
            notes.append(
                f"{clean(base)} holds too much: only {entries} entries of it were looked at; name the file with --source."
            )
            return
    if deep:
        notes.append(f"Directories more than {MAX_DEPTH} levels deep were not looked into.")


def _listed(directory: str) -> list[os.DirEntry[str]]:
    """What stands in a directory, by name. Raises OSError."""
    with os.scandir(directory) as listed:
        return sorted(listed, key=lambda e: e.name)


def _worth(here: list[os.DirEntry[str]]) -> list[tuple[os.DirEntry[str], str]]:
    """The directories to be entered, and the files whose names some format knows; nothing that is ours or of packages."""
    found: list[tuple[os.DirEntry[str], str]] = []
    if any(e.name == "pyvenv.cfg" for e in here):
        return found
    ours = _OUR_FILES if any(_OUR_LOG.fullmatch(e.name) for e in here) else _OUR_RECORDS
    for entry in here:
        name = entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                if not (_OURS.fullmatch(name) or name.startswith(".") or name in _STRANGE):
                    found.append((entry, name))
            elif _KNOWN.match(name) and not ours.fullmatch(name) and entry.is_file():
                found.append((entry, name))
        except OSError:
            continue
    return found


@lru_cache(maxsize=1024)
def named(name: str) -> tuple[Format, ...]:
    """The formats whose files are called like this, the most trusted first."""
    return tuple(f for f in formats() if any(fnmatch.fnmatchcase(name, pattern) for pattern in f.patterns))
