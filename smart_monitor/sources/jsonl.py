"""Append-only metrics, one JSON object a line: what most trainers and loggers write.

The cursor stands behind the last newline read; a torn tail waits there. Every line that is not
blank is a row and has an index, usable or not, so that an index means the same in every reading.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from json import JSONDecoder
from pathlib import Path
from typing import Any

from smart_monitor.model import Record
from smart_monitor.names import read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.appended import AppendedFile, Place, blocks
from smart_monitor.sources.files import open_regular

MAX_LINE = 16 << 20
"""Bytes; a longer line keeps its index and is not parsed."""
_BLANK = " \t\r\n\v\f\ufeff"
_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder().scan_once  # type: ignore[attr-defined]  # the stubs lack it
"""Text and place -> the value that begins there and where it ends; StopIteration if none does."""
_UNREADABLE = (StopIteration, ValueError, RecursionError, MemoryError)


class JsonLines(AppendedFile):
    """The rows of one file. `read` never raises."""

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[list[Record]]:
        for block in blocks(fd, place, final, MAX_LINE):
            ids = place.begun(fd)
            found = []
            for index, row in _rows(block, place):
                reading = read_row(row)
                for oddity in reading.oddities:
                    place.note(index, oddity)
                place.known = place.known or reading.recognised
                if reading.values or reading.nulls:
                    found.append(record_of(self.run, self.name, index, reading, ids, seen))
            yield found


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, object) of every usable row of a file, in constant memory. Raises CannotSee, OSError."""
    fd, _ = open_regular(str(path))
    try:
        place = Place()
        for block in blocks(fd, place, True, MAX_LINE):
            place.oddities.clear()
            yield from _rows(block, place)
    finally:
        os.close(fd)


def records(path: Path, run: str, name: str = "") -> Iterator[Record]:
    """The records that `JsonLines.read` gives for the whole of a finished file, for replay.

    Constant memory; `seen` stays None. Raises CannotSee (one sentence) or OSError.
    """
    return JsonLines(path, run, name).whole()


def _rows(block: bytes | None, place: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects among the lines of `block`; each line that is not blank takes an index."""
    if block is None:
        _too_long(place)
        return
    for line in _lines(block, place):
        try:
            value, end = _scan(line, 0)
        except _UNREADABLE:
            value, end = None, -1
        if end != len(line) or value.__class__ is not dict:
            value = _unusual(line)
            if value is None:
                continue
        index = place.row
        place.row = index + 1
        if value.__class__ is dict:
            yield index, value
        else:
            place.note(index, value)


def _unusual(line: str) -> dict[str, Any] | str | None:
    """The object of a line that is not an object and nothing else, or the sentence why it has none; None if it is blank."""
    line = line.strip(_BLANK)
    if not line:
        return None
    try:
        value, end = _scan(line, 0)
    except _UNREADABLE:
        return "not a whole JSON object, left out."
    if end != len(line):
        return "not a whole JSON object, left out."
    return value if isinstance(value, dict) else "no JSON object, left out."


def _lines(block: bytes, place: Place) -> Iterable[str]:
    """The lines as text; bytes that are not UTF-8 are replaced, since the numbers beside them are fine."""
    return block.decode("utf-8", "replace").split("\n") if len(block) <= MAX_LINE else _short_lines(block, place)


def _short_lines(block: bytes, place: Place) -> Iterator[str]:
    for line in block.split(b"\n"):
        if len(line) > MAX_LINE:
            _too_long(place)
        else:
            yield line.decode("utf-8", "replace")


def _too_long(place: Place) -> None:
    place.note(place.row, f"longer than {MAX_LINE >> 20} MiB, left out.")
    place.row += 1


FORMAT = Format(
    name="jsonl", title="JSON lines", patterns=("*.jsonl", "*.ndjson"), order=10,
    open=lambda place, run, name, _: JsonLines(place, run, name), index="the line, blank ones not counted", vague=True,
)  # fmt: skip
