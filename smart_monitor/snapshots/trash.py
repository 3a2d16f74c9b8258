"""Trash: a snapshot that goes is renamed in one step, and then unlinked at leisure.

So it is there whole or not there at all, whoever is killed when. What a crash leaves in the trash the next
sweep empties. Nothing but what bears a snapshot's name goes in, and nothing else is ever swept.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smart_monitor.snapshots.names import SNAPSHOT, shown
from smart_monitor.snapshots.partials import remove_tree

TRASH = re.compile(r"\.trash-[0-9a-f]{16}-(?P<name>anomaly_.+)")
RECORD = "dropped.jsonl"
"""In our own directory: what was dropped when, and by which rule, for who asks later."""
MAX_RECORD = 2**20


class InUse(OSError):
    """The snapshot is being read (restored, say) and can't go now."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While this lasts the snapshot at `path` is not dropped. Raises FileNotFoundError if it has gone already."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _flock(fd, fcntl.LOCK_SH)
        here, mine = os.stat(path, follow_symlinks=False), os.fstat(fd)
        if (here.st_dev, here.st_ino) != (mine.st_dev, mine.st_ino):
            raise FileNotFoundError(2, "it has just been dropped", str(path))
        yield
    finally:
        os.close(fd)


def discard(snapshots: int, name: str) -> None:
    """Rename a snapshot into the trash of the directory `snapshots` is open on. The caller holds the store lock.

    Raises InUse, FileNotFoundError if it is gone already, or another OSError.
    """
    if not SNAPSHOT.fullmatch(name):
        raise ValueError(f"{name!r} is no snapshot's name")
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=snapshots)
    try:
        if not _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise InUse(11, "it is being read", name)
        os.rename(name, f".trash-{time.time_ns():016x}-{name}", src_dir_fd=snapshots, dst_dir_fd=snapshots)
    finally:
        os.close(fd)


def empty(snapshots: int, alive: Callable[[], None] = lambda: None) -> list[str]:
    """Unlink what lies in the trash; a sentence for each that could not be. Someone else's emptying is left alone.

    `alive` is called before every file; it may rest, or raise to put the others off.
    """
    said = []
    for name in sorted(os.listdir(snapshots)):
        if TRASH.fullmatch(name):
            try:
                _empty_one(name, snapshots, alive)
            except FileNotFoundError:
                continue  # by another sweep, or by hand
            except OSError as error:
                said.append(f"could not remove {shown(name)}: {error.strerror}")
    return said


def _empty_one(name: str, snapshots: int, alive: Callable[[], None]) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=snapshots, follow_symlinks=False).st_mode):
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=snapshots)
    try:
        if not _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return
        for _, _, files, folder in os.fwalk(".", topdown=False, dir_fd=fd):
            for file in files:
                alive()
                os.unlink(file, dir_fd=folder)
        remove_tree(name, snapshots)
    finally:
        os.close(fd)


def record(folder: Path, name: str, rule: str, size: int, now: float) -> None:
    """Write down that a snapshot goes. Never raises: a full disk is no reason to keep what should make room."""
    line = json.dumps({"time": round(now, 3), "name": name, "rule": rule, "bytes": size}) + "\n"
    path = folder / RECORD
    try:
        if path.exists() and path.stat().st_size > MAX_RECORD:
            path.replace(path.with_suffix(".old.jsonl"))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            file.write(line.encode())
    except OSError:
        pass


def dropped(out: Path, beginning: str) -> list[dict[str, Any]]:
    """What is written down of snapshots whose names begin so: time, name, rule, bytes; the oldest first."""
    found = []
    for name in (RECORD.replace(".jsonl", ".old.jsonl"), RECORD):
        try:
            lines = (out / ".smart_monitor" / name).read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                entry = json.loads(line)
                if str(entry["name"]).startswith(beginning):
                    found.append({"time": float(entry["time"]), "name": entry["name"], "rule": str(entry["rule"])})
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return found


def _flock(fd: int, how: int) -> bool:
    """False if somebody else's lock is in the way. Where there are no locks nobody's is."""
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
