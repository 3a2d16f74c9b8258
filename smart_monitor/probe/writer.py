"""Records to a file of JSON lines, without the training loop ever waiting for a disk.

`write` puts a record into memory; a thread of its own makes lines of it and appends them, whole lines only, once
a second. While the disk refuses (full, read-only) they wait, bounded; beyond that the oldest go and are counted.
What waits at the end of the process, also at the end by an exception, gets two seconds.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BACKLOG = 2000
"""Records kept while the disk refuses them."""
BLOCK = 256 << 10
"""Bytes written at once."""
EVERY = 1.0
"""Seconds between two writes."""
PATIENCE = 2.0
"""Seconds that the end of the process waits for the disk."""
_OTHER_NAMES = {"step": "current_step", "time": "timestamp"}
"""As a status file calls them."""


class RecordWriter:
    """Appends to one file, which it makes (with its directory) at the first record. No method raises."""

    def __init__(self, path: str | os.PathLike[str], every: float = EVERY, status: Path | None = None) -> None:
        """`status`: a file that always holds the last record, for a monitor that reads training_status.json."""
        self.path, self._status = Path(path), status
        self._latest: Mapping[str, Any] | None = None
        self.every = every
        self.dropped = 0
        """Records that were lost, because the disk refused them for too long or they were no JSON."""
        self.trouble = ""
        """Why the last attempt to write failed; empty when all is on the disk."""
        self._waiting: deque[bytes | Mapping[str, Any]] = deque()
        self._wake = threading.Event()
        self._flushes: deque[threading.Event] = deque()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._file: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Of a copy (of a module that holds us, for averaged weights or for another process) nothing waits yet.
        return RecordWriter, (self.path, self.every, self._status)

    def write(self, record: Mapping[str, Any]) -> None:
        """Take one record in: a flat mapping of strings, numbers, flags and lists of strings, which is not changed any more."""
        if self._pid != os.getpid():
            self.begin()
        if len(self._waiting) >= BACKLOG:
            try:
                self._waiting.popleft()
                self.dropped += 1
            except IndexError:
                pass  # the thread has just taken them all
        self._waiting.append(record)

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait until what was taken in is on the disk (or refused), for `timeout` seconds at most; is it?"""
        if self._thread is None or self._pid != os.getpid():
            return not self._waiting
        done = threading.Event()
        self._flushes.append(done)
        self._wake.set()
        return done.wait(timeout) and not self.trouble

    def close(self, timeout: float = PATIENCE) -> None:
        """Flush, and end the thread."""
        if self._thread is None or self._pid != os.getpid():
            return
        self._ended = True
        self._wake.set()
        self._thread.join(timeout)
        atexit.unregister(self.close)
        self._pid, self._thread = 0, None

    def begin(self) -> None:
        """Start the thread; done by itself at the first record, also in a process forked from the writer's."""
        self._pid, self._file, self._ended = os.getpid(), None, False
        self._wake = threading.Event()
        self._flushes.clear()
        self._thread = threading.Thread(target=self._run, name="smart_monitor probe writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        while True:
            self._wake.wait(self.every)
            self._wake.clear()
            ended, flushes = self._ended, [self._flushes.popleft() for _ in range(len(self._flushes))]
            self._empty()
            for done in flushes:
                done.set()
            if ended:
                break
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _empty(self) -> None:
        """Write what waits; what the disk refuses waits on."""
        try:
            while self._waiting:
                self._append(self._block())
            self._tell_status()
            self.trouble = ""
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _block(self) -> list[bytes]:
        """Lines for one write, taken off the queue."""
        block: list[bytes] = []
        size = 0
        while self._waiting and size < BLOCK:
            record = self._waiting.popleft()
            if isinstance(record, bytes):
                line = record
            else:
                line, self._latest = self._line(record), record
            if line:
                block.append(line)
                size += len(line)
        return block

    def _tell_status(self) -> None:
        """Replace the status file as a whole by the last record, if there is a new one."""
        latest, self._latest = self._latest, None
        if self._status is None or latest is None:
            return
        kept = {k: v for k, v in latest.items() if "_layer/" not in k and k not in _OTHER_NAMES}
        status = {"status": "training"} | kept | {new: latest[old] for old, new in _OTHER_NAMES.items() if old in latest}
        self._status.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._status.with_name(f".{self._status.name}.{os.getpid()}")
        temporary.write_bytes(self._line(status))
        temporary.replace(self._status)

    def _line(self, record: Mapping[str, Any]) -> bytes:
        try:
            # NaN stays bare: a quoted one under a name that looks like text would be read as text.
            return json.dumps(record, separators=(",", ":"), default=str).encode("ascii") + b"\n"
        except (TypeError, ValueError, RecursionError):
            self.dropped += 1
            return b""

    def _append(self, block: list[bytes]) -> None:
        """Append whole lines; of those the disk does not take all wait again, in their order."""
        data = b"".join(block)
        try:
            file = self._opened()
            size = os.fstat(file).st_size
            written = os.write(file, data) if data else 0
            if written != len(data):
                os.ftruncate(file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            room = max(0, BACKLOG - len(self._waiting))
            self.dropped += max(0, len(block) - room)
            self._waiting.extendleft(reversed(block[len(block) - room :] if room < len(block) else block))
            if self._file is not None:
                os.close(self._file)
                self._file = None
            raise

    def _opened(self) -> int:
        """The file, made anew if it was moved or deleted, its last line whole."""
        if self._file is not None:
            try:
                here, there = os.fstat(self._file), os.stat(self.path)
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return self._file
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._file = file
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")  # a kill cut the line before: what is left of it is a line of its own
        return file
