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


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    pid: int
    host: str
    since: float


class Held(Exception):
    """Another monitor watches this run; the text is the sentence for the user."""

    def __init__(self, path: Path, holder: Holder | None) -> None:
        who = f"process {holder.pid} on {holder.host}" if holder else "another process"
        super().__init__(f"{path.parent.parent} is already watched by {who}; `smart-monitor stop` ends it.")
        self.holder = holder


class RunLock:
    """An exclusive flock on OUT/.smart_monitor/lock for as long as the monitor runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take it. Raises Held or OSError."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.pread(fd, 4096, 0))
            os.close(fd)
            raise Held(self.path, holder) from None
        except OSError:
            os.close(fd)
            raise
        # Host and pid are for people, and for network file systems whose flock is local to a host.
        line = {"schema": SCHEMA, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(fd, 0)
        os.pwrite(fd, to_json(line).encode() + b"\n", 0)
        self._fd = fd

    def is_ours(self) -> bool:
        """Does the path still lead to the file we hold? Not if the directory was deleted or moved."""
        if self._fd is None:
            return False
        try:
            there, ours = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock at `path` now; None if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(os.pread(fd, 4096, 0)) or Holder(0, "unknown", 0.0)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _holder(content: bytes) -> Holder | None:
    try:
        line: dict[str, Any] = json.loads(content)
        return Holder(int(line["pid"]), str(line["host"]), float(line["since"]))
    except (ValueError, KeyError, TypeError):
        return None
