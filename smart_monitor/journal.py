"""The journal: every record and tick judged, one JSON object a line, a file a day (local date).

It is appended before a line is judged and is the only truth about what was seen: state is a cache of
its fold. Lines carry a running number `n`; a torn last line (power cut, full disk) was never judged
and is cut off when the journal is opened for writing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from smart_monitor.linefile import LineFile, cut_torn_tail
from smart_monitor.model import RECORD, SCHEMA, Record, to_float, to_json

TAIL = 1 << 20
"""Bytes from the end of a file in which, as a rule, all stands that opening it has to know."""
QUARTER = 900
"""Seconds: in no time zone of today does a day begin anywhere but at a whole quarter of an hour."""
_NUMBER = b'{"n": '
_DEFAULTS = Record("", "", -1)
_WRITTEN = tuple(name for name in Record._fields if name not in ("run", "values", "kind"))


def encode(record: Record, number: int) -> str:
    """One line of the journal, without its newline. What is at its default is left out."""
    line: dict[str, Any] = {"n": number, "kind": record.kind}
    given = zip(Record._fields, record, _DEFAULTS, strict=True)
    line |= {name: value for name, value, usual in given if value != usual and name in _WRITTEN}
    line["values"] = {name: value if value.__class__ is float else to_float(value) for name, value in record.values.items()}
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
        known = {name: fields[name] for name in _WRITTEN if name in fields}
        known["values"] = {k: float(v) for k, v in fields["values"].items()}
        known["nulls"] = tuple(fields.get("nulls", ()))
        for name in ("epoch", "time", "seen"):
            if known.get(name) is not None:
                known[name] = float(known[name])
        known.setdefault("source", "")
        known.setdefault("index", -1)
        return number, Record(run=run, kind=fields.get("kind", RECORD), **known)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error


class Journal:
    """The journal of one run, open for appending. OSError from `open` only; appending never raises."""

    def __init__(self, directory: Path, run: str) -> None:
        self.directory, self.run = directory, run
        self.number = 0
        """The number of the last line; the first is 1."""
        self.records = 0
        """How many records (not ticks) it holds: the index of the next one."""
        self._file = LineFile(directory)
        self._header = to_json({"schema": SCHEMA, "run": run})
        self._day = ""

    @property
    def trouble(self) -> str:
        """Why the last line could not be written; empty when all are on the disk."""
        return self._file.trouble

    @property
    def lost(self) -> int:
        """Lines given up because the disk refused for too long."""
        return self._file.lost

    def open(self) -> None:
        """Make the directory, cut a torn tail, find where to go on. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = journal_files(self.directory)
        if files:
            cut_torn_tail(files[-1])
        if files:
            self._day = files[-1].stem
        for path in reversed(files):
            if self._look(path, TAIL) or self._look(path, None):
                break

    def _look(self, path: Path, tail: int | None) -> bool:
        """Learn from the last `tail` bytes of a file where the journal stands; is that known now?"""
        for number, record in read_file(path, self.run, tail):
            self.number = max(self.number, number)
            if record.kind == RECORD:
                self.records = max(self.records, record.index + 1)
        return bool(self.number and self.records)

    def append(self, record: Record) -> int:
        """Write one line and return its number. While the disk refuses, lines wait in memory."""
        self.number += 1
        if record.kind == RECORD:
            self.records = record.index + 1
        # A clock set back must not put a line before the ones it follows.
        self._day = max(self._day, _day_of((time.time() if record.seen is None else record.seen) // QUARTER))
        self._file.append(f"{self._day}.jsonl", encode(record, self.number), self._header)
        return self.number

    def sync(self) -> None:
        """Make what was appended survive a power cut. Called when something was found."""
        self._file.sync()

    def rest(self) -> None:
        """Give the descriptor back until the next line."""
        self._file.rest()

    def close(self) -> None:
        self._file.close()


@lru_cache(maxsize=2)
def _day_of(quarter: float) -> str:
    """The local day of a quarter of an hour of unix time."""
    return time.strftime("%Y%m%d", time.localtime(quarter * QUARTER))


def journal_files(directory: Path) -> list[Path]:
    """The journal's files, the oldest first."""
    return sorted(p for p in directory.glob("*.jsonl") if p.stem.isdigit() and len(p.stem) == 8)


def read_file(path: Path, run: str, tail: int | None = None, after: int = 0) -> Iterator[tuple[int, Record]]:
    """(number, record) of each whole line numbered above `after`; damaged lines are passed over.

    With `tail` only of the lines that begin within the last so many bytes.
    """
    with path.open("rb") as lines:
        if tail is not None and (size := os.fstat(lines.fileno()).st_size) > tail:
            lines.seek(size - tail)
            lines.readline()
        for line in lines:
            if after and _numbered_up_to(line, after):
                continue
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
        for number, record in read_file(path, run, after=after):
            if number > after:
                yield number, record


def _numbered_up_to(line: bytes, after: int) -> bool:
    """Is this surely a line of a number up to `after`? Asked before it is parsed: most of a day may lie before the cursor."""
    if not line.startswith(_NUMBER):
        return False
    digits = line[len(_NUMBER) : len(_NUMBER) + 20].split(b",", 1)[0]
    return digits.isdigit() and int(digits) <= after


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
