"""Copying one file of someone else's: clone or read and write, digest inline, and proof that it stood still.

Reads nothing but the bytes: the source is never locked, written, or given a new time stamp. Dirty pages
stay bounded, because a full page cache is what slows a trainer's next save, not the bandwidth of a copy.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pace import CHUNK, Pace

FICLONE = 0x40049409
RWF_DONTCACHE = 0x80
"""preadv2/pwritev2 flag of Linux 6.14: written pages leave the cache as soon as they are on the disk."""
WINDOW = 32 * 2**20
"""Bytes that may be dirty where RWF_DONTCACHE is not to be had."""
CLOCK_GRAIN = 0.05
"""Seconds within which two writes may get the same mtime (a kernel tick is 1 to 10 ms)."""
COARSE_GRAIN = 2.0
"""The same where mtimes are whole seconds, as on FAT and on some network file systems."""
BLOCK = 64 * 2**10
"""Bytes of a sparse file that are left out together, if all are zero."""
FULL = (errno.ENOSPC, errno.EDQUOT)
_ZEROS = bytes(BLOCK)
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY, errno.ENOSYS, errno.EACCES)


class Changed(Exception):
    """The source is not, or no longer, what was found complete. The text is one sentence."""


class Source(NamedTuple):
    """One file to copy: where it lies, where it goes, and the identity under which it was seen complete."""

    path: str
    """POSIX, relative to the root of its group; `.` if the root is the file."""
    dest: str
    bytes: int
    dev: int
    ino: int
    mtime_ns: int


def open_source(root: str, root_fd: int, source: Source) -> int:
    """A descriptor of the very file that was seen complete. Raises Changed if it is gone or another one."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if source.path == ".":
            fd = _open(root, flags, None)
        else:
            try:
                fd = _open(source.path, flags, root_fd)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                fd = _open(_inside(root, source.path), flags, None)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Changed(f"{shown(source.path)} vanished before it could be copied") from error
    try:
        require_same(os.fstat(fd), source)
    except Changed:
        os.close(fd)
        raise
    return fd


def _open(path: str, flags: int, dir_fd: int | None) -> int:
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:  # only an owner may leave the access time alone
        return os.open(path, flags, dir_fd=dir_fd)


def _inside(root: str, relative: str) -> str:
    top = os.path.realpath(root)
    target = os.path.realpath(os.path.join(top, relative))
    if not target.startswith(top.rstrip("/") + "/"):
        raise Changed(f"{shown(relative)} has become a link out of the checkpoint")
    return target


def require_same(info: os.stat_result, source: Source) -> None:
    """Raises Changed unless `info` is of the regular file that was seen complete, unchanged since."""
    if not stat.S_ISREG(info.st_mode):
        raise Changed(f"{shown(source.path)} is no longer a regular file")
    if (info.st_dev, info.st_ino) != (source.dev, source.ino):
        raise Changed(f"{shown(source.path)} was replaced by another file")
    if (info.st_size, info.st_mtime_ns) != (source.bytes, source.mtime_ns):
        raise Changed(f"{shown(source.path)} was overwritten")


def settle(source: Source) -> None:
    """Wait until a write from now on must show in the mtime (the clock-window rule of backup tools)."""
    grain = CLOCK_GRAIN if source.mtime_ns % 10**9 else COARSE_GRAIN
    age = time.time() - source.mtime_ns / 1e9
    if 0 <= age < grain:
        time.sleep(grain - age)


def is_sparse(fd: int) -> bool:
    """May a file have holes? It takes less of the disk than it is long, as it also does where files are compressed."""
    info = os.fstat(fd)
    return info.st_blocks * 512 < info.st_size


def solid(piece: memoryview) -> Iterator[tuple[int, int]]:
    """From where to where a piece is more than blocks of zeros.

    That is seen in the bytes themselves: SEEK_HOLE has told of holes where there were data (OpenZFS 2.2).
    """
    begin, count = 0, len(piece)
    for at in range(0, count, BLOCK):
        block = bytes(piece[at : at + BLOCK])
        if block == _ZEROS[: len(block)]:
            if begin < at:
                yield begin, at
            begin = at + len(block)
    if begin < count:
        yield begin, count


class Copier:
    """Copies and digests files with one buffer; hashing runs beside reading and writing."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._buffer = memoryview(mmap.mmap(-1, CHUNK))
        self._hasher = ThreadPoolExecutor(1)
        self._flags = {"read": RWF_DONTCACHE, "write": RWF_DONTCACHE}

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._hasher.shutdown()

    def copy(self, src: int, dst: int, source: Source) -> tuple[str, str]:
        """Copy an open source into an empty file and bring it to the disk; (sha256, `clone` or `copy`).

        Raises Changed if the source did not stand still from its stamp to the last byte, OSError if
        either side fails.
        """
        settle(source)
        before = os.fstat(src)
        require_same(before, source)
        how = "clone" if self._clone(src, dst) else "copy"
        if how == "clone":
            self._require_still(src, before, source)
            sha = self.digest(dst)
            self._compare(src, before, source, sha)
        else:
            sha, count = self._stream(src, dst)
            self._require_still(src, before, source)
            if count != source.bytes:
                raise Changed(f"{shown(source.path)} gave {count} bytes instead of {source.bytes}")
        os.fsync(dst)
        return sha, how

    def examine(self, src: int, source: Source) -> str:
        """The sha256 of an open source, which is only read. Raises Changed if it did not stand still, and OSError."""
        settle(source)
        before = os.fstat(src)
        require_same(before, source)
        sha = self.digest(src)
        self._require_still(src, before, source)
        return sha

    def digest(self, fd: int) -> str:
        """The sha256 of a file from its beginning, read past the page cache where the kernel can."""
        return self._stream(fd, None)[0]

    def _compare(self, src: int, before: os.stat_result, source: Source, sha: str) -> None:
        """Clones have been seen to differ (OpenZFS 2.2.0). A source overwritten since proves nothing and harms nothing."""
        found = self.digest(src)
        try:
            self._require_still(src, before, source)
        except Changed:
            return
        if found != sha:
            raise OSError(errno.EIO, f"the clone of {shown(source.path)} differs from it")

    @staticmethod
    def _require_still(src: int, before: os.stat_result, source: Source) -> None:
        after = os.fstat(src)
        require_same(after, source)
        # A restored mtime leaves its mark in the ctime; so does a link or unlink, which is no change of content.
        if after.st_ctime_ns != before.st_ctime_ns and after.st_nlink == before.st_nlink:
            raise Changed(f"{shown(source.path)} was touched while it was copied")

    @staticmethod
    def _clone(src: int, dst: int) -> bool:
        try:
            fcntl.ioctl(dst, FICLONE, src)
        except OSError as error:
            if error.errno in _NO_CLONE:
                return False
            raise
        return True

    def _stream(self, src: int, dst: int | None) -> tuple[str, int]:
        sha, offset, synced = hashlib.sha256(), 0, 0
        sparse = dst is not None and is_sparse(src)
        while True:
            count = self._read(src, self._buffer[: self.pace.chunk], offset)
            if count == 0:
                if dst is not None and sparse:
                    os.ftruncate(dst, offset)  # a hole at the end
                return sha.hexdigest(), offset
            piece, written = self._buffer[:count], 0
            hashing = self._hasher.submit(sha.update, piece)
            try:
                if dst is not None:
                    for start, end in solid(piece) if sparse else [(0, count)]:
                        self._write(dst, piece[start:end], offset + start)
                        written += end - start
            finally:
                hashing.result()
            offset += count
            if dst is not None and not self._flags["write"] and offset - synced >= WINDOW:
                os.fdatasync(dst)
                os.posix_fadvise(dst, synced, offset - synced, os.POSIX_FADV_DONTNEED)
                synced = offset
            self.pace.spent(count, written)

    def _read(self, fd: int, into: memoryview, offset: int) -> int:
        return self._flagged("read", lambda flags: os.preadv(fd, [into], offset, flags))

    def _write(self, fd: int, piece: memoryview, offset: int) -> None:
        done = 0
        while done < len(piece):
            rest, at = piece[done:], offset + done
            done += self._flagged("write", lambda flags, rest=rest, at=at: os.pwritev(fd, [rest], at, flags))  # type: ignore[misc]

    def _flagged(self, side: str, call: Callable[[int], int]) -> int:
        try:
            return call(self._flags[side])
        except OSError as error:
            if self._flags[side] and error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                self._flags[side] = 0
                return call(0)
            raise
