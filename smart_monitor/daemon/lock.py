"""One monitor for each run: a lock that vanishes with its process, and says whose it is."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smart_monitor.model import SCHEMA, to_json

LOOKS = (0.02, 0.05, 0.1, 0.2)
"""Seconds between the tries to take a lock that is held: somebody may only be looking."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    pid: int
    host: str
    since: float


class Held(Exception):
    """Another monitor watches this run; the text is the sentence for the user."""

    def __init__(self, path: Path, holder: Holder | None) -> None:
        who = f"process {holder.pid} on {holder.host}" if holder and holder.pid else "another process"
        super().__init__(f"{path.parent.parent} is already watched by {who}; `smart-monitor stop` ends it.")
        self.holder = holder


class RunLock:
    """An exclusive flock on OUT/.smart_monitor/lock for as long as the monitor runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = str(path)
        self._fd: int | None = None
        self._ours = (0, 0)
        """Device and inode of the file we hold: no other can have them while it is open."""

    def acquire(self) -> None:
        """Take it. Raises Held or OSError."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._lock(fd)
        except (OSError, Held):
            os.close(fd)
            raise
        found = os.fstat(fd)
        self._fd, self._ours = fd, (found.st_dev, found.st_ino)
        # Host and pid are for people, and for network file systems whose flock is local to a host.
        line = {"schema": SCHEMA, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, to_json(line).encode() + b"\n", 0)
        except OSError:
            pass  # a full disk: the lock holds all the same, and the kernel knows whose it is

    def _lock(self, fd: int) -> None:
        for patience in (*LOOKS, 0.0):
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # `status` and `stop` hold it for a moment when they look; a monitor holds it for good.
                time.sleep(patience)
        raise Held(self.path, _holder_of(fd))

    def is_ours(self) -> bool:
        """Does the path still lead to the file we hold? Not if the directory was deleted or moved."""
        if self._fd is None:
            return False
        try:
            there = os.stat(self._place)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._ours

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock at `path` now; None if nobody does. An unknown holder has pid 0."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder_of(fd) or Holder(0, "unknown", 0.0)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _holder_of(fd: int) -> Holder | None:
    """What the file says of its holder, unless the kernel of this host knows better (a full disk, a line not yet written)."""
    said = _said(fd)
    known = _kernel_pid(os.fstat(fd))
    if known and (said is None or said.pid != known) and (said is None or said.host == socket.gethostname()):
        return Holder(known, socket.gethostname(), 0.0)
    return said


def _said(fd: int) -> Holder | None:
    try:
        line: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        return Holder(int(line["pid"]), str(line["host"]), float(line["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kernel_pid(found: os.stat_result) -> int:
    """The process that holds a write flock on this file, by /proc/locks; 0 if that does not say."""
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                fields = line.split()
                if fields[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and fields[5] == place:
                    return max(0, int(fields[4]))
    except (OSError, ValueError, IndexError):
        pass
    return 0
