"""Opening what a trainer writes: regular files only, never blocking, never touching the access time."""

from __future__ import annotations

import errno
import os
import stat

from smart_monitor.names import clean

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NOATIME = getattr(os, "O_NOATIME", 0)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class CannotSee(Exception):
    """A file can't be read; the text is one sentence."""


def open_regular(path: str, known: os.stat_result | None = None) -> tuple[int, os.stat_result]:
    """A descriptor of the regular file at `path` (links followed) and its stat; `known`: that of a moment ago,
    of a regular file. Raises CannotSee.

    Looks before it opens, since opening a pipe would be felt by its writer, and again afterwards.
    """
    try:
        if known is None:
            must_be_regular(path, os.stat(path))
        try:
            fd = os.open(path, _FLAGS | _NOATIME)  # granted to the owner of the file and to root only
        except PermissionError:
            fd = os.open(path, _FLAGS)
    except OSError as error:
        raise CannotSee(why(path, error)) from None
    try:
        found = os.fstat(fd)
        must_be_regular(path, found)
    except OSError as error:
        os.close(fd)
        raise CannotSee(why(path, error)) from None
    except CannotSee:
        os.close(fd)
        raise
    return fd, found


def must_be_regular(path: str, found: os.stat_result) -> None:
    """Raises CannotSee unless `found`, the stat of `path`, is of a regular file."""
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something special")
        raise CannotSee(f"{shown(path)} is {kind}, not a file.")


def identity_of(found: os.stat_result) -> list[int]:
    """What changes when a file is written or replaced; plain JSON."""
    return [found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size]


def read_up_to(fd: int, count: int, offset: int = 0) -> bytes:
    """At most `count` bytes from `offset`; fewer only at the end of the file. Raises OSError."""
    found = os.pread(fd, count, offset)
    if len(found) == count or not found:
        return found
    parts = [found]
    left = count - len(found)
    while left > 0:
        found = os.pread(fd, left, offset + count - left)
        if not found:
            break
        parts.append(found)
        left -= len(found)
    return b"".join(parts)


def why(path: str, error: OSError) -> str:
    """The sentence for an error on `path`."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{shown(path)} does not exist."
    return f"{shown(path)} cannot be read: {error.strerror or type(error).__name__}."


def shown(path: str) -> str:
    """`path` as it may stand in a sentence."""
    return clean(path, 400)
