"""One inotify instance, by watchdog's bindings. It is read by whoever waits anyway, and not by a thread of its own.

watchdog's observer passes each event on from one thread to the next. Beside a trainer that writes once a second, those
wakes cost more than all reading and judging of what it wrote; and a thread that waits for events can die unheard.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading

from watchdog.observers.inotify_c import (
    InotifyConstants,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

RENAMED = InotifyConstants.IN_MOVED_TO
CREATED = InotifyConstants.IN_CREATE
CLOSED = InotifyConstants.IN_CLOSE_WRITE
GROWS = InotifyConstants.IN_MODIFY
GONE = InotifyConstants.IN_IGNORED
OVERFLOW = InotifyConstants.IN_Q_OVERFLOW
_ONLY_DIRECTORIES = InotifyConstants.IN_ONLYDIR

_EVENT = struct.Struct("iIII")
_LIMITS = {
    errno.ENOSPC: "no more inotify watches are to be had (fs.inotify.max_user_watches)",
    errno.EMFILE: "no more inotify instances or descriptors are to be had (fs.inotify.max_user_instances, ulimit -n)",
}
"""The kernel's own words for these are those of a full disk and of too many files."""
_MOST = 1 << 16
"""Bytes of events read at once; what is left is read at the next turn."""


class Inotify:
    """Raises OSError where the kernel has no more of them to give. One thread watches, unwatches and closes, any may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held to read and to close, never while a path is looked up: that may take for ever, and who reads serves all runs."""
        self._open = True
        self.failed = False
        """Could it not be read?"""
        self.fd = _checked(inotify_init())
        os.set_inheritable(self.fd, False)
        os.set_blocking(self.fd, False)

    def watch(self, path: str, events: int) -> int:
        """Listen for `events` in a directory (its path ends in a slash) or of a file, and for no others; the number that they
        bear. Raises OSError.
        """
        kind = _ONLY_DIRECTORIES if path.endswith("/") else 0
        return _checked(inotify_add_watch(self.fd, os.fsencode(path), Mask(events | kind)))

    def unwatch(self, number: int) -> None:
        """Listen no more; of what is gone, the kernel has seen to it already."""
        inotify_rm_watch(self.fd, WatchDescriptor(number))

    def events(self) -> list[tuple[int, int, str]]:
        """(number, what, file name) of what happened since the last call, without waiting."""
        with self._lock:
            if not self._open:  # its descriptor may be another's by now
                return []
            try:
                raw = os.read(self.fd, _MOST)
            except BlockingIOError:
                return []
            except OSError:
                self.failed = True
                return []
        found, at = [], 0
        while at < len(raw):
            number, what, _, length = _EVENT.unpack_from(raw, at)
            at += _EVENT.size + length
            found.append((number, what, os.fsdecode(raw[at - length : at].rstrip(b"\0"))))
        return found

    def close(self) -> None:
        with self._lock:
            self._open = False
            os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, _LIMITS.get(number) or os.strerror(number))
    return result
