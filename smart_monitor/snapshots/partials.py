"""Partials: snapshots that still grow, owned by the worker whose host, pid and start time are in the name."""

from __future__ import annotations

import fcntl
import os
import stat

from smart_monitor.snapshots.names import PARTIAL, host, process_start, shown


def remove_tree(name: str, dir_fd: int) -> None:
    """Delete a directory and all below it without following a link. Raises OSError; gone already is fine."""
    try:
        for _, folders, files, fd in os.fwalk(name, topdown=False, dir_fd=dir_fd):
            for file in files:
                os.unlink(file, dir_fd=fd)
            for folder in folders:
                info = os.stat(folder, dir_fd=fd, follow_symlinks=False)
                (os.rmdir if stat.S_ISDIR(info.st_mode) else os.unlink)(folder, dir_fd=fd)
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return


def sweep(snapshots: str) -> list[str]:
    """Delete the partials of dead workers of this machine; a sentence for each deleted or left with reason."""
    said: list[str] = []
    try:
        fd = os.open(snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return said
    try:
        for name in sorted(os.listdir(fd)):
            if match := PARTIAL.fullmatch(name):
                said += _sweep_one(name, fd, match["host"], int(match["pid"]), match["start"])
    finally:
        os.close(fd)
    return said


def _sweep_one(name: str, dir_fd: int, owner: str, pid: int, start: str) -> list[str]:
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            return []
        if owner != host():
            return [f"left {shown(name)}: it belongs to another machine"]
        if process_start(pid) == start or _is_locked(name, dir_fd):
            return []
        remove_tree(name, dir_fd)
    except OSError as error:
        return [f"could not remove {shown(name)}: {error.strerror}"]
    return [f"removed {shown(name)}: its worker is gone"]


def _is_locked(name: str, dir_fd: int) -> bool:
    """Its worker holds a lock on it, which shows also across containers, where pids mean nothing."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
