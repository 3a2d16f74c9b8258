"""Wakes an eye sooner than its next stat, by file-system events; never trusted, always watched.

Events are lost on network mounts, behind symbolic links and for replaced directories; an observer can
die of one exception and still look alive. So its directories are set anew at every scan, and when the
eye finds changes that no event announced it is replaced, and after three times given up: the stat
goes on without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from smart_monitor.daemon.eye import Eye

UNANNOUNCED = 3
"""Changes in one scan interval without a single event: the observer is deaf."""
REPLACEMENTS = 3


class _Handler(FileSystemEventHandler):
    def __init__(self, eye: Eye, names: frozenset[str]) -> None:
        self._eye, self._names = eye, names

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            path = event.dest_path or event.src_path
            if os.path.basename(os.fsdecode(path)) in self._names:
                self._eye.wake()
        except Exception:  # an exception here would end the observer for good, and silently
            self._eye.wake()


class Wake:
    """The observer of one eye. `check` is called at every scan."""

    def __init__(self, eye: Eye, paths: Iterable[str]) -> None:
        self._eye, self._paths = eye, tuple(paths)
        self._observer: Any = None
        self._watched: dict[tuple[str, int, int], Any] = {}
        self._replaced = 0
        self._seen = (0, 0)
        self._looked = 0.0
        self.trouble = ""
        """Why there are no events; empty while there are."""

    def check(self) -> str:
        """Set the watches anew and see whether the observer still hears; a sentence if something was mended."""
        if self._replaced > REPLACEMENTS:
            return ""
        changes, wakes = self._eye.changes, self._eye.wakes
        deaf = changes - self._seen[0] >= UNANNOUNCED and wakes == self._seen[1]
        self._seen = (changes, wakes)
        dead = self._observer is not None and not (
            self._observer.is_alive() and all(e.is_alive() for e in self._observer.emitters)
        )
        if self._observer is not None and (dead or deaf):
            return self._replace("died" if dead else "went deaf")
        self._watch()
        return ""

    def heard(self) -> None:
        """The eye found something: if no event said so, the directory may be new, and is watched from now on."""
        if self._eye.wakes == self._seen[1] and self._replaced <= REPLACEMENTS and time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            self._watch()

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            if self._observer.is_alive():
                self._observer.join(2)
            self._observer = None
            self._watched.clear()

    def _replace(self, how: str) -> str:
        self.close()
        self._replaced += 1
        if self._replaced > REPLACEMENTS:
            self.trouble = "file-system events do not arrive here"
            return f"Watchdog {how} {self._replaced} times and is given up; the stat every 0.5 s goes on."
        self._watch()
        return f"Watchdog {how} and was replaced; the stat every 0.5 s missed nothing."

    def _watch(self) -> None:
        wanted = _directories(self._paths)
        if self._observer is not None and set(wanted) == set(self._watched):
            return
        try:
            if self._observer is None:
                self._observer = Observer()
                self._observer.start()
            for key in [k for k in self._watched if k not in wanted]:
                watch = self._watched.pop(key)
                try:
                    self._observer.unschedule(watch)
                except (KeyError, OSError):
                    continue
            for key, names in wanted.items():
                if key not in self._watched:
                    handler = _Handler(self._eye, names)
                    events: list[type[FileSystemEvent]] = [FileMovedEvent, FileClosedEvent]
                    self._watched[key] = self._observer.schedule(handler, key[0], recursive=False, event_filter=events)
            self.trouble = ""
        except (OSError, RuntimeError) as error:
            # Too many watches, or the directory vanished between the look and the watch: poll on.
            self.trouble = str(error)


def _directories(paths: Iterable[str]) -> dict[tuple[str, int, int], frozenset[str]]:
    """(directory, dev, ino) -> names to hear of: where the paths lie, and where they lead to."""
    found: dict[tuple[str, int, int], set[str]] = {}
    for path in paths:
        for place in {path, os.path.realpath(path)}:
            directory, name = os.path.split(place)
            try:
                identity = os.stat(directory)
            except OSError:
                continue
            found.setdefault((directory, identity.st_dev, identity.st_ino), set()).add(name)
    return {key: frozenset(names) for key, names in found.items()}
