"""The store lock: one short section at a time for publishing and for whatever else moves snapshots."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from smart_monitor.snapshots.names import boot_id, host, shown

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Held(OSError):
    """Another process kept the lock for too long; the text says who."""


@contextmanager
def store_lock(folder: str, patience: float = 30.0) -> Iterator[None]:
    """Hold `folder`/store.lock (flock; the kernel frees it with its holder). The file says who holds it.

    Raises Held after `patience` seconds and OSError if the file can't be made. Where the file system
    has no locks the section runs without: then only the daemon's own lock keeps others away.
    """
    path = os.path.join(folder, "store.lock")
    fd = _acquire(path, time.monotonic() + patience)
    try:
        owner = {"schema": 1, "host": host(), "pid": os.getpid(), "boot": boot_id()}
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, (json.dumps(owner) + "\n").encode(), 0)
        except OSError:  # a full disk must not keep anyone from publishing what is already copied
            pass
        yield
    finally:
        os.close(fd)


def _acquire(path: str, deadline: float) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_at(path, fd):
                return fd
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return fd
            if not isinstance(error, BlockingIOError):
                os.close(fd)
                raise
        holder = os.pread(fd, 500, 0).decode("utf-8", "replace").strip()
        os.close(fd)
        if time.monotonic() > deadline:
            raise Held(errno.EAGAIN, f"the store lock is held by {shown(holder) or 'another process'}")
        time.sleep(0.02)


def _still_at(path: str, fd: int) -> bool:
    """False if the file was deleted by hand between open and lock: then the lock is nobody's."""
    try:
        info, mine = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (info.st_dev, info.st_ino) == (mine.st_dev, mine.st_ino)
