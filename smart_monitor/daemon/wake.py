"""Wakes an eye sooner than its next stat, by file-system events; never trusted, always watched.

Events are lost on network mounts, behind symbolic links and for replaced directories; a thread that waits for
them can die of one exception and nobody hears. So its directories are set anew at every scan, and when the
eye finds changes that no event announced it is replaced; if that does not help it is given up for an
hour, and the stat goes on without it.

Of watchdog we use the thread that reads inotify. Its observer would pass each event on to two threads more, and
beside a trainer that writes once a second those wakes cost more than all reading and judging of what it wrote.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

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

RENAMED = InotifyConstants.IN_MOVED_TO
CLOSED = InotifyConstants.IN_CLOSE_WRITE
GROWS = InotifyConstants.IN_MODIFY

_Key = tuple[str, int, int]


class _Watched:
    """One directory that is listened to."""

    def __init__(self, eye: Eye, names: frozenset[str]) -> None:
        self._eye, self.names = eye, names
        """Files to hear of; an empty name stands for all."""
        self.number = WatchDescriptor(-1)
        self.events = 0
        """Those that are listened for."""
        self.gone = False
        """Was the directory deleted?"""
        self.heard = 0
        """Events that told of one of the names."""
        self._woke = 0.0

    def wanted(self) -> int:
        """The events to listen for."""
        if self.names != {FILE_NAME}:
            return RENAMED | CLOSED | GROWS  # logs are written and never closed
        # Who renames into place closes a temporary file each time, which need not wake anybody.
        return RENAMED if self.heard == RENAMED else RENAMED | CLOSED

    def on_event(self, event: InotifyEvent) -> None:
        try:
            if event.mask & GROWS:  # a log that stays open; the next stat finds what comes meanwhile
                now = time.monotonic()
                if now - self._woke < AT_MOST:
                    return
                self._woke = now
            if "" in self.names or os.fsdecode(event.name) in self.names:
                self.heard |= event.mask & (RENAMED | CLOSED)
                self._eye.wake()
        except Exception:  # an exception here would end the thread for good, and silently
            self._eye.wake()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self.gone = True

    def on_queue_overflow(self) -> None:
        self._eye.wake()


class Wake:
    """The observer of one eye. `check` is called at every scan."""

    def __init__(self, eye: Eye, paths: Callable[[], Iterable[str]]) -> None:
        self._eye, self._paths = eye, paths
        self.observer: InotifyFD | None = None
        self._watched: dict[_Key, _Watched] = {}
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
        if self.observer is not None and ((dead := not self.observer.is_alive()) or (deaf and self._watched)):
            return self._replace("died" if dead else "went deaf", now)
        self._watch()
        return ""

    def heard(self) -> None:
        """The eye found something: if no event said so, the directory may be new, and is watched from now on."""
        now = time.monotonic()
        if self._eye.wakes == self._seen[1] and now >= self._until and now - self._looked > RESCAN:
            self._looked = now
            for watched in self._watched.values():
                watched.heard = 0
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
        for key in [k for k, w in self._watched.items() if w.gone]:
            del self._watched[key]
        for key in wanted.keys() & self._watched.keys():
            self._watched[key].names = wanted[key]
        left = [k for k, w in self._watched.items() if k not in wanted or w.events != w.wanted()]
        if self.observer is not None and not left and wanted.keys() == self._watched.keys():
            return
        try:
            if self.observer is None:
                self.observer = InotifyFD()
                self.observer.start()
            for key in left:
                watched = self._watched.pop(key)
                self.observer.remove_callbacks([(watched.number, CallbackId(id(watched)))])
                if key in wanted:
                    self._listen(key, watched)
            for key in wanted.keys() - self._watched.keys():
                self._listen(key, _Watched(self._eye, wanted[key]))
            self.trouble = ""
        except (OSError, RuntimeError) as error:
            # Too many watches, or the directory vanished between the look and the watch: poll on, and try at the next scan.
            self.trouble = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            if not self._watched:
                self.close()

    def _listen(self, key: _Key, watched: _Watched) -> None:
        assert self.observer is not None
        watched.events = watched.wanted()
        mask = Mask(watched.events | InotifyConstants.IN_ONLYDIR)
        watched.number = self.observer.add_callback(os.fsencode(key[0]), mask, watched, CallbackId(id(watched)))
        self._watched[key] = watched


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
