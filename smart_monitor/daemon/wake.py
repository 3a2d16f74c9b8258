"""Wakes an eye sooner than its next stat, by file-system events; never trusted, always watched.

Events are lost on network mounts, behind symbolic links and for replaced directories; an observer can
die of one exception and still look alive. So its directories are set anew at every scan, and when the
eye finds changes that no event announced it is replaced; if that does not help it is given up for an
hour, and the stat goes on without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from watchdog.events import FileClosedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from smart_monitor.daemon.eye import Eye
from smart_monitor.sources.status_json import FILE_NAME

UNANNOUNCED = 3
"""Changes in one scan interval without a single event: the observer is deaf."""
REPLACEMENTS = 3
GIVEN_UP = 3600.0
"""Seconds without events after the last replacement did not help."""
RESCAN = 1.0
"""Seconds at least between two looks at the directories on account of an unannounced change."""

AT_MOST = 0.1
"""Seconds between two wakes for a file that is written to and stays open."""

_Key = tuple[str, int, int]


class _Handler(FileSystemEventHandler):
    def __init__(self, eye: Eye, names: frozenset[str]) -> None:
        self._eye, self.names = eye, names
        """Files to hear of; an empty name stands for all."""
        self._woke = 0.0

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            if isinstance(event, FileModifiedEvent):  # a log that stays open; the next stat finds what comes meanwhile
                now = time.monotonic()
                if now - self._woke < AT_MOST:
                    return
                self._woke = now
            path = event.dest_path or event.src_path
            if "" in self.names or os.path.basename(os.fsdecode(path)) in self.names:
                self._eye.wake()
        except Exception:  # an exception here would end the observer for good, and silently
            self._eye.wake()


class Wake:
    """The observer of one eye. `check` is called at every scan."""

    def __init__(self, eye: Eye, paths: Callable[[], Iterable[str]]) -> None:
        self._eye, self._paths = eye, paths
        self.observer: Any = None
        self._watched: dict[_Key, Any] = {}
        self._replaced = 0
        self._until = 0.0
        self._seen = (0, 0)
        self._looked = 0.0
        self.trouble = ""
        """Why there are no events; empty while there are."""

    def check(self) -> str:
        """Set the watches anew and see whether the observer still hears; a sentence if something was mended."""
        now = time.monotonic()
        if now < self._until:
            return ""
        changes, wakes = self._eye.changes, self._eye.wakes
        heard, deaf = wakes > self._seen[1], changes - self._seen[0] >= UNANNOUNCED and wakes == self._seen[1]
        self._seen = (changes, wakes)
        if heard:
            self._replaced = 0
        # First what left: an emitter whose directory was deleted has ended, and rightly so.
        self._watch()
        dead = self.observer is not None and not (self.observer.is_alive() and all(e.is_alive() for e in self.observer.emitters))
        if self.observer is not None and (dead or (deaf and self._watched)):
            return self._replace("died" if dead else "went deaf", now)
        return ""

    def heard(self) -> None:
        """The eye found something: if no event said so, the directory may be new, and is watched from now on."""
        now = time.monotonic()
        if self._eye.wakes == self._seen[1] and now >= self._until and now - self._looked > RESCAN:
            self._looked = now
            self._watch()

    def close(self) -> None:
        if self.observer is not None:
            self.observer.stop()
            if self.observer.is_alive():
                self.observer.join(2)
            self.observer = None
            self._watched.clear()

    def _replace(self, how: str, now: float) -> str:
        self.close()
        self._replaced += 1
        if self._replaced > REPLACEMENTS:
            self._replaced, self._until = 0, now + GIVEN_UP
            self.trouble = "file-system events do not arrive here"
            return f"Watchdog {how} {REPLACEMENTS + 1} times and rests for an hour; the stat every 0.5 s goes on."
        self._watch()
        return f"Watchdog {how} and was replaced; the stat every 0.5 s missed nothing."

    def _watch(self) -> None:
        wanted = _directories(self._paths())
        for key in wanted.keys() & self._watched.keys():
            self._watched[key][1].names = wanted[key]
        if self.observer is not None and wanted.keys() == self._watched.keys():
            return
        try:
            if self.observer is None:
                self.observer = Observer()
                self.observer.start()
            for key in [k for k in self._watched if k not in wanted]:
                watch, _ = self._watched.pop(key)
                try:
                    self.observer.unschedule(watch)
                except (KeyError, OSError):
                    continue
            for key, names in wanted.items():
                if key not in self._watched:
                    handler = _Handler(self._eye, names)
                    events: list[type[FileSystemEvent]] = [FileMovedEvent, FileClosedEvent]
                    if names != {FILE_NAME}:  # others write and never close
                        events.append(FileModifiedEvent)
                    watch = self.observer.schedule(handler, key[0], recursive=False, event_filter=events)
                    self._watched[key] = watch, handler
            self.trouble = ""
        except (OSError, RuntimeError) as error:
            # Too many watches, or the directory vanished between the look and the watch: poll on, and try at the next scan.
            self.trouble = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            if not self._watched:
                self.close()


def _directories(paths: Iterable[str]) -> dict[_Key, frozenset[str]]:
    """(directory, dev, ino) -> names to hear of: where the paths lie, and where they lead to."""
    found: dict[_Key, set[str]] = {}
    for path in paths:
        real = os.path.realpath(path)
        for place in {path, f"{real}/" if path.endswith("/") else real}:
            directory, name = os.path.split(place)
            try:
                identity = os.stat(directory)
            except OSError:
                continue
            found.setdefault((directory, identity.st_dev, identity.st_ino), set()).add(name)
    return {key: frozenset(names) for key, names in found.items()}
