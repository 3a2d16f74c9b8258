"""Wakes an eye sooner than its next stat, by file-system events; never trusted, always watched.

A file is listened to for what is written to it, and its directory only for names that come: a trainer writes much else
beside what it logs, and what nobody reads should wake nobody.

Events are lost on network mounts, behind symbolic links and for replaced directories, and nobody hears of it. So the
watches are set anew at every scan, and when the eye finds changes that no event announced the inotify instance is
replaced; if that does not help it is given up for an hour, and the stat goes on without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.inotify import CLOSED, CREATED, GONE, GROWS, OVERFLOW, RENAMED, Inotify
from smart_monitor.daemon.pool import Pool
from smart_monitor.sources.status_json import FILE_NAME

UNANNOUNCED = 3
"""Changes in one scan interval without a single event: inotify is deaf here."""
REPLACEMENTS = 3
GIVEN_UP = 3600.0
"""Seconds without events after the last replacement did not help."""
RESCAN = 1.0
"""Seconds at least between two looks at what is to be watched on account of an unannounced change or a new file."""

AT_MOST = 0.1
"""Seconds between two wakes for a file that is written to and stays open."""

_Key = tuple[int, int]
"""Device and inode: the kernel has one watch of a file or directory, whatever paths lead there."""


class _Watched:
    """One file or directory that is listened to."""

    def __init__(self, path: str) -> None:
        self.path = path
        """With a slash at its end if it is a directory."""
        self.names: set[str] = set()
        """Names in the directory to hear of; an empty one stands for all."""
        self.number = -1
        self.gone = False
        """Was it deleted?"""
        self._woke = 0.0

    @property
    def events(self) -> int:
        """The events to listen for."""
        if self.path.endswith("/"):
            return RENAMED | CREATED
        # A status is written whole and closed; logs are written and never closed.
        return CLOSED if self.path.endswith(f"/{FILE_NAME}") else CLOSED | GROWS

    def hears(self, what: int, name: str) -> bool:
        """Take in an event; is it worth a look?"""
        self.gone |= bool(what & GONE)
        if what & (RENAMED | CREATED):
            return "" in self.names or name in self.names
        if what & GROWS:  # a log that stays open; the next stat finds what comes meanwhile
            now = time.monotonic()
            if now - self._woke < AT_MOST:
                return False
            self._woke = now
        return bool(what & (GROWS | CLOSED))


class Wake:
    """The events of one eye, heard by whoever waits in `pool`. `check` is called at every scan."""

    def __init__(self, eye: Eye, paths: Callable[[], Iterable[str]], pool: Pool) -> None:
        self._eye, self._paths, self._pool = eye, paths, pool
        self.inotify: Inotify | None = None
        self._watched: dict[_Key, _Watched] = {}
        self._numbered: dict[int, _Watched] = {}
        self._replaced = 0
        self._until = 0.0
        self._seen = (0, 0)
        self._looked = 0.0
        self._came = False
        """Did a file come that is not listened to yet?"""
        self.trouble = ""
        """Why there are no events; empty while there are."""

    def check(self) -> str:
        """Set the watches anew and see whether anything is still heard; a sentence if something was mended."""
        now = time.monotonic()
        if now < self._until:
            return ""
        changes, wakes = self._eye.changes, self._eye.wakes
        heard, deaf = wakes > self._seen[1], changes - self._seen[0] >= UNANNOUNCED and wakes == self._seen[1]
        self._seen = (changes, wakes)
        if heard:
            self._replaced = 0
        deaf = deaf and bool(self._watched) and not self.trouble  # of what can't be watched nobody should hear
        if self.inotify is not None and (self.inotify.failed or deaf):
            return self._replace("failed" if self.inotify.failed else "went deaf", now)
        self._watch()
        return ""

    def heard(self) -> None:
        """The eye found something: if no event said so, or a file came, that may be new, and is watched from now on."""
        now = time.monotonic()
        if (self._came or self._eye.wakes == self._seen[1]) and now >= self._until and now - self._looked > RESCAN:
            self._looked = now
            self._watch()

    def close(self) -> None:
        if self.inotify is not None:
            self._pool.unlisten(self.inotify.fd)
            self.inotify.close()
            self.inotify = None
            self._watched.clear()
            self._numbered.clear()

    def _hear(self) -> None:
        """On the thread that waits: wake the eye if an event is worth it."""
        inotify = self.inotify
        if inotify is None:
            return
        for number, what, name in inotify.events():
            watched = self._numbered.get(number)
            if what & OVERFLOW or (watched is not None and watched.hears(what, name)):
                self._came |= bool(what & CREATED)
                self._eye.wake()
        if inotify.failed:
            self._pool.unlisten(inotify.fd)

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
        self._came = False
        wanted = _wanted(self._paths())
        for key in [k for k, w in self._watched.items() if w.gone]:
            self._numbered.pop(self._watched.pop(key).number, None)
        for key in wanted.keys() & self._watched.keys():
            self._watched[key].names = wanted[key].names
        if self.inotify is not None and wanted.keys() == self._watched.keys():
            return
        try:
            if self.inotify is None:
                self.inotify = Inotify()
                self._pool.listen(self.inotify.fd, self._hear)
            for key in self._watched.keys() - wanted.keys():
                watched = self._watched.pop(key)
                self._numbered.pop(watched.number, None)
                self.inotify.unwatch(watched.number)
            self.trouble = ""
            for key in wanted.keys() - self._watched.keys():
                self._listen(self.inotify, key, wanted[key])
        except OSError as error:
            self.trouble = error.strerror or str(error)
        if self.trouble and not self._watched:
            self.close()

    def _listen(self, inotify: Inotify, key: _Key, watched: _Watched) -> None:
        """Watch one. If that can't be, the others are watched all the same, and the next scan tries again."""
        try:
            watched.number = inotify.watch(watched.path, watched.events)
        except OSError as error:  # too many watches, or it vanished since it was looked at
            self.trouble = error.strerror or str(error)
            return
        self._watched[key] = self._numbered[watched.number] = watched


def _wanted(paths: Iterable[str]) -> dict[_Key, _Watched]:
    """What is to be listened to: the files, and the directories where they lie and where links to them lead."""
    found: dict[_Key, _Watched] = {}
    for path in paths:
        real = os.path.realpath(path)
        for place in {path, f"{real}/" if path.endswith("/") else real}:
            directory, name = os.path.split(place)
            for each in (f"{directory}/", place):
                try:
                    identity = os.stat(each)
                except OSError:
                    continue
                watched = found.setdefault((identity.st_dev, identity.st_ino), _Watched(each))
                if each.endswith("/"):
                    watched.names.add(name)
    return found
