"""The journal: every record and tick judged, one JSON object a line, a file a day (local date).

It is appended before a line is judged and is the only truth about what was seen: state is a cache of
its fold. Lines carry a running number `n`; a torn last line (power cut, full disk) was never judged
and is cut off when the journal is opened for writing.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smart_monitor.model import RECORD, SCHEMA, Record, to_json

BACKLOG = 10_000
"""Lines kept in memory while the disk refuses them."""
_DEFAULTS = Record("", "", -1)._asdict()
_WRITTEN = tuple(name for name in Record._fields if name not in ("run", "values", "kind"))


def encode(record: Record, number: int) -> str:
    """One line of the journal, without its newline. What is at its default is left out."""
    line: dict[str, Any] = {"n": number, "kind": record.kind}
    for name in _WRITTEN:
        value = getattr(record, name)
        if value != _DEFAULTS[name]:
            line[name] = value
    line["values"] = dict(record.values)
    return to_json(line, ensure_ascii=False)


def decode(line: bytes | str, run: str) -> tuple[int, Record] | None:
    """(number, record) of a line; None for the header. ValueError for anything else."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    if "n" not in fields:
        return None
    number = int(fields.pop("n"))
    try:
        fields["values"] = {k: float(v) for k, v in fields["values"].items()}
        fields["nulls"] = tuple(fields.get("nulls", ()))
        return number, Record(run=run, **({"index": -1} | fields))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error


class Journal:
    """The journal of one run, open for appending. OSError from `open` only; appending never raises."""

    def __init__(self, directory: Path, run: str) -> None:
        self.directory, self.run = directory, run
        self.number = 0
        """The number of the last line; the first is 1."""
        self.records = 0
        """How many records (not ticks) it holds: the index of the next one."""
        self._file: int | None = None
        self._day = ""
        self._waiting: deque[tuple[str, str]] = deque(maxlen=BACKLOG)
        self.trouble = ""
        """Why the last append could not be written; empty when all is on the disk."""

    def open(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = journal_files(self.directory)
        if files:
            _cut_torn_tail(files[-1])
        for path in reversed(files):
            last = None
            index = -1
            for number, record in read_file(path, self.run):
                last = number
                if record.kind == RECORD:
                    index = record.index
            if last is not None:
                self.number = max(self.number, last)
                self.records = max(self.records, index + 1)
            if self.number and self.records:
                break

    def append(self, record: Record) -> int:
        """Write one line and return its number. While the disk refuses, lines wait in memory."""
        self.number += 1
        if record.kind == RECORD:
            self.records = record.index + 1
        day = time.strftime("%Y%m%d", time.localtime(record.seen))
        self._waiting.append((max(day, self._day), encode(record, self.number)))
        self._flush()
        return self.number

    def sync(self) -> None:
        """Make what was appended survive a power cut. Called when something was found."""
        if self._file is not None:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self.trouble = error.strerror or str(error)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._day = ""

    def _flush(self) -> None:
        try:
            while self._waiting:
                day, line = self._waiting[0]
                self._write(day, line.encode("utf-8", "backslashreplace") + b"\n")
                self._waiting.popleft()
            self.trouble = ""
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _write(self, day: str, line: bytes) -> None:
        if self._file is None or day != self._day:
            self.close()
            path = self.directory / f"{day}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._day = day
            if os.fstat(self._file).st_size == 0:
                line = to_json({"schema": SCHEMA, "run": self.run}).encode() + b"\n" + line
        before = os.fstat(self._file).st_size
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, before)
            raise OSError(28, "no space left for the journal")


def journal_files(directory: Path) -> list[Path]:
    """The journal's files, the oldest first."""
    return sorted(p for p in directory.glob("*.jsonl") if p.stem.isdigit() and len(p.stem) == 8)


def read_file(path: Path, run: str) -> Iterator[tuple[int, Record]]:
    """(number, record) of each whole line; damaged lines are passed over."""
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            try:
                found = decode(line, run)
            except ValueError:
                continue
            if found is not None:
                yield found


def read_journal(directory: Path, run: str, after: int = 0) -> Iterator[tuple[int, Record]]:
    """(number, record) of every line numbered above `after`, in order."""
    files = journal_files(directory)
    start = 0
    for position in range(len(files) - 1, 0, -1):
        first = next(read_file(files[position], run), None)
        if first is not None and first[0] <= after + 1:
            start = position
            break
    for path in files[start:]:
        for number, record in read_file(path, run):
            if number > after:
                yield number, record


def run_name(directory: Path) -> str:
    """The run that a journal is of, as its header says; empty if it does not say."""
    for path in journal_files(directory):
        try:
            with path.open("rb") as lines:
                header = json.loads(lines.readline(1 << 16))
                return str(header.get("run", ""))
        except (OSError, ValueError, AttributeError):
            continue
    return ""


def _cut_torn_tail(path: Path) -> None:
    """Drop a last line without its newline: it was never judged."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        position = size
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
