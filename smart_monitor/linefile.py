"""Append-only files of whole lines: the log, the events, the journal.

A line is on the disk whole or not at all. While the disk refuses (full, read-only), lines wait in
memory, bounded, and are written when it takes them again; appending never raises. A file that was
deleted or rotated away, or whose directory was, is made anew: lines never go where nobody sees them.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path

BACKLOG = 10_000
"""Lines kept in memory while the disk refuses them; the oldest go first, and are counted."""


class LineFile:
    """Lines under `directory`, each in the file named with it. Files are 0600 unless `mode` says otherwise."""

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.directory, self.mode = str(directory), mode
        self.trouble = ""
        """Why the last line could not be written; empty when all are on the disk."""
        self.lost = 0
        """Lines that waited in vain: more than BACKLOG of them came while the disk refused."""
        self._file: int | None = None
        self._path = ""
        self._ours = (0, 0)
        """Device and inode of the open file: no other can have them while it is open."""
        self._synced = False
        """Was nothing written since the last `sync`?"""
        self._waiting: deque[tuple[str, bytes, str]] = deque()

    def append(self, name: str, line: str, header: str = "") -> None:
        """Add one line to the file `name`; `header` is written before the first line of a new file."""
        if len(self._waiting) >= BACKLOG:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append((name, _encoded(line), header))
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        try:
            while self._waiting:
                self._write(*self._waiting[0])
                self._waiting.popleft()
            self.trouble = ""
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        if self._file is not None and not self._synced:
            try:
                os.fdatasync(self._file)
                self._synced = True
            except OSError as error:
                self.trouble = error.strerror or str(error)

    def rest(self) -> None:
        """Give the descriptor back; the next line opens the file again."""
        self._release()

    def close(self) -> None:
        """Let go of the file. What still waits gets a last chance; after that it is gone."""
        if self._waiting:
            self.flush()
        self._release()

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._path = ""

    def _write(self, name: str, line: bytes, header: str) -> None:
        file, size = self._opened(f"{self.directory}/{name}")
        if header and size == 0:
            line = _encoded(header) + line
        self._synced = False
        written = os.write(file, line)
        if written != len(line):
            try:
                os.ftruncate(file, os.fstat(file).st_size - written)
            except OSError:  # some full disks refuse this as well; opening it again cuts the piece off
                self._release()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _opened(self, path: str) -> tuple[int, int]:
        """A descriptor of `path`, and its size."""
        if self._file is not None and path == self._path:
            try:
                there = os.stat(path)
                if (there.st_dev, there.st_ino) == self._ours:
                    return self._file, there.st_size
            except FileNotFoundError:
                pass  # deleted, or rotated away: the next line begins a new one
        self._release()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._file = os.open(path, flags, self.mode)
        except FileNotFoundError:
            os.mkdir(self.directory, 0o700 if self.mode == 0o600 else 0o777)  # its parent is made by nobody here
            self._file = os.open(path, flags, self.mode)
        opened = os.fstat(self._file)
        size = _cut(self._file)
        self._path, self._ours = path, (opened.st_dev, opened.st_ino)
        return self._file, size


def cut_torn_tail(path: Path) -> None:
    """Drop a last line without its newline: a kill or a power cut in the middle of it. Missing files are fine."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        _cut(file)
    finally:
        os.close(file)


def _cut(file: int) -> int:
    """Cut the torn tail of an open file; the size that is left."""
    size = position = os.fstat(file).st_size
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(file, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        os.ftruncate(file, position)
    return position


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
