"""Append-only metrics, one JSON object a line: what most trainers and loggers write.

The cursor stands behind the last newline read; a torn tail waits there. Some writers put the newline before the next
row: a tail that is a whole object is taken when nothing was written for a while, and what follows on its line is of no
row. Every line that is not blank is a row and has an index, usable or not, so that an index means the same in every
reading.

Where msgspec is installed (extra `fast`) it decodes the lines. What it refuses (NaN, numbers beyond a double, torn
lines, lone surrogates …) the standard library decides, so that every line is read as it is without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from json import JSONDecoder
from pathlib import Path
from typing import Any

from smart_monitor.model import Record
from smart_monitor.names import read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.appended import AppendedFile, Place, blocks
from smart_monitor.sources.bare import respelled
from smart_monitor.sources.files import open_regular

MAX_LINE = 16 << 20
"""Bytes; a longer line keeps its index and is not parsed."""
MAX_LOOK = 1 << 10
_BEHIND = "more stands behind the object on its line, left out."
_SHALLOW = 256
"""Brackets: with more of them in a line it may be nested so deep that one decoder goes on where the other gives up."""
_BLANK = " \t\r\n\v\f\ufeff"
_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder().scan_once  # type: ignore[attr-defined]  # the stubs lack it
"""Text and place -> the value that begins there and where it ends; StopIteration if none does."""
_UNREADABLE = (StopIteration, ValueError, RecursionError, MemoryError)


class JsonLines(AppendedFile):
    """The rows of one file. `read` never raises."""

    closes = True

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[list[Record]]:
        if place.skipping and place.inner.get("taken"):
            _look_behind(fd, place)
        for block in blocks(fd, place, final, MAX_LINE, closed=_is_object if place.still else None):
            place.inner = {"taken": True} if place.skipping and block else {}
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
    fast = _fast()
    for line in _lines(block, place):
        value: Any = None
        if fast is not None and (len(line) <= _SHALLOW or line.count("[") + line.count("{") <= _SHALLOW):
            try:
                value = fast(line)
            except Exception:  # whatever the reason, the standard library has the say
                value = None
        if value.__class__ is not dict:
            try:
                value, end = _scan(line, 0)
            except _UNREADABLE:
                end = -1
            if end != len(line) or value.__class__ is not dict:
                value, odd = _unusual(line)
                if odd:
                    place.note(place.row, odd)
                elif value is None:
                    continue
        index = place.row
        place.row = index + 1
        if value.__class__ is dict:
            yield index, value


@lru_cache(maxsize=1)
def _fast() -> Callable[[str], Any] | None:
    """msgspec's decoder of one line; None where it is not installed. Loaded when the first line is read, not before."""
    try:
        from msgspec.json import Decoder
    except Exception:  # not there, or not for this Python: reading goes on without it
        return None
    decode: Callable[[str], Any] = Decoder().decode
    return decode


def _unusual(line: str) -> tuple[dict[str, Any] | None, str]:
    """(the object that a line begins with, what is odd about it in a sentence); (None, "") if it is blank."""
    line = line.strip(_BLANK)
    if not line:
        return None, ""
    try:
        value, end = _scan(line, 0)
    except _UNREADABLE:
        try:
            line = respelled(line)
            value, end = _scan(line, 0)
        except _UNREADABLE:
            return None, "not a whole JSON object, left out."
    if not isinstance(value, dict):
        return None, "no JSON object, left out."
    return value, "" if end == len(line) else _BEHIND


def _is_object(line: bytes) -> bool:
    """Is it one object and nothing else?"""
    value, odd = _unusual(line.decode("utf-8", "replace"))
    return value is not None and not odd


def _look_behind(fd: int, place: Place) -> None:
    """Say it if more stands on the line of a row that was taken before its newline came."""
    if os.pread(fd, MAX_LOOK, place.offset).partition(b"\n")[0].strip():
        place.note(place.row - 1, _BEHIND)


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
    # The last ones are detectron2's, OpenMMLab's and RLlib's.
    name="jsonl", title="JSON lines", order=10,
    patterns=("*.jsonl", "*.ndjson", "metrics.json", "scalars.json", "*.log.json", "result.json"),
    open=lambda place, run, name, _: JsonLines(place, run, name), index="the line, blank ones not counted", vague=True,
)  # fmt: skip
