"""Pinning: a clone or a hard link of every file of a checkpoint, out of the trainer's directory, in milliseconds.

A link shares the file with the trainer: deleting or replacing the trainer's name leaves it alone, writing
into the file does not. So every file is compared with what was found whole, before and after, and the
directory is listed before and after: a rotation that ran meanwhile deletes in any order.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import NamedTuple

from smart_monitor.model import Checkpoint, FileStamp
from smart_monitor.snapshots.copy import FICLONE
from smart_monitor.snapshots.names import shown

NOT_LINKED = {
    errno.EXDEV: "it lies on another file system",
    errno.EPERM: "its file system or the kernel (fs.protected_hardlinks) refuses hard links to its files",
    errno.EACCES: "its files belong to another user",
    errno.EMLINK: "one of its files has as many links as its file system allows",
    errno.EOPNOTSUPP: "its file system knows no hard links",
    errno.ENOSYS: "its file system knows no hard links",
}
_NOT_CLONED = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY, errno.ENOSYS, errno.EACCES)


class Raced(Exception):
    """The checkpoint is not, or no longer, what was found whole. The text is one clause."""


class Unlinkable(Exception):
    """It can be neither cloned nor linked here, only copied. The text is one clause."""


class Pinned(NamedTuple):
    """What was pinned: `clone` or `link`, and the files as they lie below our directory."""

    how: str
    files: tuple[FileStamp, ...]


def is_single(found: Checkpoint) -> bool:
    """Is the checkpoint one file and not a directory?"""
    return len(found.files) == 1 and found.files[0].path == "."


def pin(found: Checkpoint, into: str, *, clone: bool) -> Pinned:
    """Pin `found` below the empty directory `into` (a single file under its own name).

    Raises Raced, Unlinkable, or OSError (a full disk); what was pinned so far lies in `into` then.
    """
    single = is_single(found)
    top = os.path.dirname(found.path) if single else found.path
    try:
        top_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Raced("it vanished") from error
    except PermissionError as error:
        raise Unlinkable(NOT_LINKED[errno.EACCES]) from error
    into_fd = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        before = None if single else listing(top_fd)
        hand = _Hand(top, top_fd, into_fd, clone)
        files = tuple(hand.take(os.path.basename(found.path) if single else s.path, s) for s in found.files)
        if before is not None:
            _require_same(found, before, listing(top_fd))
        return Pinned(hand.how, files)
    finally:
        os.close(top_fd)
        os.close(into_fd)


def listing(fd: int, below: str = "") -> dict[str, tuple[int, ...]]:
    """All that lies below an open directory: relative path -> what tells a change (kind, inode, size, mtime)."""
    info = os.fstat(fd)
    found: dict[str, tuple[int, ...]] = {f"{below}/": (info.st_ino, info.st_mtime_ns)}
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                inner = f"{below}/{entry.name}" if below else entry.name
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    child = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                    try:
                        found |= listing(child, inner)
                    finally:
                        os.close(child)
                else:
                    found[inner] = (stat.S_IFMT(info.st_mode), info.st_ino, info.st_size, info.st_mtime_ns)
    except FileNotFoundError as error:
        raise Raced("files vanished while it was pinned") from error
    return found


def _require_same(found: Checkpoint, before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> None:
    if before != after:
        raise Raced("files came, went or changed while it was pinned")
    known = {s.path for s in found.files} | {path for path, _ in found.external}
    if strange := [path for path in after if path and not path.endswith("/") and path not in known]:
        raise Raced(f"{shown(strange[0])} appeared in it")


class _Hand:
    """Takes one file after the other, by descriptors, so that no name is looked up twice."""

    def __init__(self, top: str, top_fd: int, into_fd: int, clone: bool) -> None:
        self._top, self._top_fd, self._into_fd, self._clone = os.path.realpath(top), top_fd, into_fd, clone
        self._folders: set[str] = set()
        self.how = "clone" if clone else "link"

    def take(self, path: str, stamp: FileStamp) -> FileStamp:
        """Pin one file; its stamp below our directory."""
        if path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise Raced(f"{shown(path)} is no name of a file inside it")
        self._make_folders(path)
        try:
            if self._clone and self._try_clone(path, stamp):
                return self._stamp(path, stamp.path)
            self.how = "link"
            return self._link(path, stamp)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Raced(f"{shown(path)} vanished") from error
        except OSError as error:
            if error.errno in NOT_LINKED:
                raise Unlinkable(NOT_LINKED[error.errno]) from error
            raise

    def _make_folders(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            folder = "/".join(parts[:i])
            if folder not in self._folders:
                os.mkdir(folder, 0o700, dir_fd=self._into_fd)
                self._folders.add(folder)

    def _link(self, path: str, stamp: FileStamp) -> FileStamp:
        os.link(path, path, src_dir_fd=self._top_fd, dst_dir_fd=self._into_fd, follow_symlinks=False)
        kept = os.stat(path, dir_fd=self._into_fd, follow_symlinks=False)
        if stat.S_ISLNK(kept.st_mode):
            # A link that stays inside the checkpoint stands for its target's content.
            os.unlink(path, dir_fd=self._into_fd)
            os.link(self._inside(path), path, dst_dir_fd=self._into_fd, follow_symlinks=False)
            kept = os.stat(path, dir_fd=self._into_fd, follow_symlinks=False)
        if (kept.st_dev, kept.st_ino, kept.st_size, kept.st_mtime_ns) != stamp.identity or not stat.S_ISREG(kept.st_mode):
            os.unlink(path, dir_fd=self._into_fd)
            raise Raced(f"{shown(path)} was replaced or overwritten")
        return stamp  # the same file under another name

    def _inside(self, path: str) -> str:
        target = os.path.realpath(os.path.join(self._top, path))
        if not target.startswith(self._top.rstrip("/") + "/"):
            raise Raced(f"{shown(path)} has become a link out of the checkpoint")
        return target

    def _try_clone(self, path: str, stamp: FileStamp) -> bool:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            source = os.open(path, flags, dir_fd=self._top_fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                source = os.open(self._inside(path), flags)
            elif error.errno in (errno.EACCES, errno.EPERM):
                return False  # a link may be had without reading
            else:
                raise
        try:
            return self._clone_to(path, source, stamp)
        finally:
            os.close(source)

    def _clone_to(self, path: str, source: int, stamp: FileStamp) -> bool:
        self._require(source, path, stamp)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        dest = os.open(path, flags, 0o600, dir_fd=self._into_fd)
        try:
            fcntl.ioctl(dest, FICLONE, source)
        except OSError as error:
            os.unlink(path, dir_fd=self._into_fd)
            if error.errno in _NOT_CLONED:
                self._clone = False
                return False
            raise
        finally:
            os.close(dest)
        self._require(source, path, stamp)
        return True

    @staticmethod
    def _require(fd: int, path: str, stamp: FileStamp) -> None:
        info = os.fstat(fd)
        if (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns) != stamp.identity:
            raise Raced(f"{shown(path)} was replaced or overwritten")

    def _stamp(self, path: str, name: str) -> FileStamp:
        kept = os.stat(path, dir_fd=self._into_fd, follow_symlinks=False)
        return FileStamp(name, kept.st_size, kept.st_dev, kept.st_ino, kept.st_mtime_ns)
