"""Append-only files of whole lines: the log, the events, the journal.

A line is on the disk whole or not at all. While the disk refuses (full, read-only), lines wait in
memory, bounded, and are written when it takes them again; appending never raises.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path

BACKLOG = 10_000
"""Lines kept in memory while the disk refuses them; the oldest go first."""


class LineFile:
    """Lines under `directory`, each in the file named with it. Files are 0600 unless `mode` says otherwise."""

    def __init__(self, directory: Path, mode: int = 0o600) -> None:
        self.directory, self.mode = directory, mode
        self.trouble = ""
        """Why the last line could not be written; empty when all are on the disk."""
        self._file: int | None = None
        self._name = ""
        self._waiting: deque[tuple[str, bytes, bytes]] = deque(maxlen=BACKLOG)

    def append(self, name: str, line: str, header: str = "") -> None:
        """Add one line to the file `name`; `header` is written before the first line of a new file."""
        self._waiting.append((name, _encoded(line), _encoded(header) if header else b""))
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
        if self._file is not None:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self.trouble = error.strerror or str(error)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._name = ""

    def _write(self, name: str, line: bytes, header: bytes) -> None:
        if self._file is None or name != self._name:
            self.close()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self.directory / name, flags, self.mode)
            self._name = name
        size = os.fstat(self._file).st_size
        if size == 0:
            line = header + line
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cut_torn_tail(path: Path) -> None:
    """Drop a last line without its newline: a power cut in the middle of it. Missing files are fine."""
    try:
        file = path.open("rb+")
    except FileNotFoundError:
        return
    with file:
        size = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != size:
            file.truncate(position)


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
