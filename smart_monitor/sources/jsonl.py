"""Append-only metrics, one JSON object a line: what most trainers and loggers write.

The cursor stands behind the last newline read; a torn tail waits there. Every line that is not
blank is a row and has an index, usable or not, so that an index means the same in every reading.

Whether a file is still the one that the cursor knows is asked of its content (its first line and
the bytes before the cursor, up to 1 KiB each) and not of its inode: some writers replace the whole
file at every row, and device numbers may change with the machine's start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from smart_monitor.model import Record
from smart_monitor.names import Reading, clean, read_row
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.files import CannotSee, must_be_regular, open_regular, shown, why

CHUNK = 256 << 10
MAX_LINE = 16 << 20
"""Bytes; a longer line keeps its index and is not parsed."""
MAX_PASS = 512 << 10
"""Bytes after which a pass ends and asks to be called again: a catching-up holds up nobody and little memory."""
FOREIGN_AFTER = 20
"""Rows without anything of training in them after which the file counts as foreign."""
_PROBE = 1024
_MAX_ODDITIES = 8
_BLANK = " \t\r\n\v\f\ufeff"
_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True)
class _Place:
    """Where reading stands in a file, and what could not be used on the way."""

    offset: int = 0
    row: int = 0
    skipping: bool = False
    """Inside a line longer than MAX_LINE."""
    odd: int = 0
    oddities: list[str] = field(default_factory=list)

    def note(self, index: int, what: str) -> None:
        self.odd += 1
        if len(self.oddities) < _MAX_ODDITIES:
            self.oddities.append(f"row {index}: {what}")


class JsonLines:
    """The rows of one file. `read` never raises."""

    def __init__(self, path: Path, run: str, name: str = "") -> None:
        self.path = str(path)
        self.run = run
        self.name = name or clean(os.path.basename(self.path))

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """The rows since `cursor`; `final` also takes a last line that has no newline.

        At most about MAX_PASS bytes: `retry_in` is 0 when there is more. `now_mono` is not used.
        """
        try:
            found = os.stat(self.path)
            must_be_regular(self.path, found)
            identity = [found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size]
            if cursor.get("file") == identity and not final:
                return Pass(cursor, self._sight(cursor))
            fd, _ = open_regular(self.path)
        except OSError as error:
            return Pass(cursor, Sight(False, why(self.path, error), self.path))
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), self.path))
        try:
            return self._since(fd, cursor, now_wall, final)
        except OSError as error:
            return Pass(cursor, Sight(False, why(self.path, error), self.path))
        finally:
            os.close(fd)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `count` records that reading on from `cursor` gave: they are passed over."""
        skip = cursor.get("skip", 0) + count
        return {k: v for k, v in cursor.items() if k != "file"} | {"skip": skip} if count else cursor

    def _since(self, fd: int, cursor: Cursor, now_wall: float, final: bool) -> Pass:
        found = os.fstat(fd)  # before reading: what comes later changes it again
        identity = [found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size]
        place = _Place(cursor.get("offset", 0), cursor.get("row", 0), cursor.get("skipping", False))
        turn, head, known = cursor.get("turn", 0), cursor.get("head"), cursor.get("known", False)
        skip = cursor.get("skip", 0)
        if place.offset and not _same(fd, cursor):
            place, turn, head, known, skip = _Place(), turn + 1, None, False, 0
            place.oddities.append(f"{shown(self.path)} was truncated or replaced and is read from its beginning.")
            place.odd = 1
        start = place.offset
        records: list[Record] = []
        more = False
        for block in _blocks(fd, place, final):
            head = head or _head(fd)
            ids = {"file": f"{head[1]}.{turn}"}
            for index, row in _rows(block, place):
                reading = _reading(row, index, place)
                known = known or reading.recognised
                if reading.values or reading.nulls:
                    records.append(_record(self.run, self.name, index, reading, ids, now_wall))
            if place.offset - start >= MAX_PASS:
                more = True
                break
        following: Cursor = {
            "offset": place.offset, "row": place.row, "skipping": place.skipping, "turn": turn, "known": known, "head": head,
            "tail": _probe(fd, max(0, place.offset - _PROBE), min(_PROBE, place.offset)),
        }  # fmt: skip
        if not more:
            following["file"] = identity
        if skip:
            following["skip"] = max(0, skip - len(records))
            del records[:skip]
        return Pass(
            following, self._sight(following), records, heartbeat=place.offset != start and not records,
            retry_in=0.0 if more else None, oddities=tuple(place.oddities), odd=place.odd,
        )  # fmt: skip

    def _sight(self, cursor: Cursor) -> Sight:
        if not cursor.get("known") and cursor.get("row", 0) >= FOREIGN_AFTER:
            return Sight(False, f"{shown(self.path)} does not look like training metrics: no row has step or loss.", self.path)
        return Sight(True, "", self.path)


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, object) of every usable row of a file, in constant memory. Raises CannotSee, OSError."""
    fd, _ = open_regular(str(path))
    try:
        place = _Place()
        for block in _blocks(fd, place, final=True):
            place.oddities.clear()
            yield from _rows(block, place)
    finally:
        os.close(fd)


def records(path: Path, run: str, name: str = "") -> Iterator[Record]:
    """The records that `JsonLines.read` gives for the whole of a finished file, for replay.

    Constant memory; `seen` stays None. Raises CannotSee (one sentence) or OSError.
    """
    name = name or clean(os.path.basename(path))
    fd, _ = open_regular(str(path))
    try:
        place = _Place()
        ids: dict[str, str] = {}
        for block in _blocks(fd, place, final=True):
            ids = ids or {"file": f"{_head(fd)[1]}.0"}
            for index, row in _rows(block, place):
                reading = read_row(row)
                if reading.values or reading.nulls:
                    yield _record(run, name, index, reading, ids, None)
    finally:
        os.close(fd)


def _reading(row: dict[str, Any], index: int, place: _Place) -> Reading:
    reading = read_row(row)
    for oddity in reading.oddities:
        place.note(index, oddity)
    return reading


def _record(run: str, name: str, index: int, reading: Reading, ids: dict[str, str], seen: float | None) -> Record:
    step, by, epoch, time, total, values, nulls, own, state, note, _, _, rank = reading
    # By position: a keyword call costs twice as much, and replay makes one for every row.
    return Record(
        run, name, index, step, by, epoch, time, seen, values, rank, total, nulls, {**ids, **own} if own else ids, "record",
        state, note,
    )  # fmt: skip


def _blocks(fd: int, place: _Place, final: bool) -> Iterator[bytes]:
    """Runs of whole lines from `place` on, which moves behind each; empty ones while a line is skipped."""
    pending = b""
    while True:
        chunk = os.pread(fd, CHUNK, place.offset + len(pending))
        if not chunk:
            if final and pending:
                place.offset += len(pending)
                yield pending
            return
        if place.skipping:
            end = chunk.find(b"\n")
            place.skipping = end < 0
            place.offset += len(chunk) if end < 0 else end + 1
            yield b""
            continue
        cut = chunk.rfind(b"\n")
        if cut >= 0:
            block = pending + chunk[:cut]
            place.offset += len(block) + 1
            pending = chunk[cut + 1 :]
            yield block
            continue
        pending += chunk
        if len(pending) > MAX_LINE:
            place.offset += len(pending)
            place.skipping = True
            pending = b""
            _too_long(place)
            yield b""


def _rows(block: bytes, place: _Place) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects among the lines of `block`; each line that is not blank takes an index."""
    for line in _lines(block, place):
        if not line or line[0] != "{":
            line = line.strip(_BLANK)
            if not line:
                continue
        index = place.row
        place.row = index + 1
        try:
            value, end = _decode(line)
            if end != len(line) and line[end:].strip(_BLANK):
                raise ValueError
        except (ValueError, RecursionError, MemoryError):
            place.note(index, "not a whole JSON object, left out.")
            continue
        if type(value) is dict:
            yield index, value
        else:
            place.note(index, "no JSON object, left out.")


def _lines(block: bytes, place: _Place) -> Iterable[str]:
    """The lines as text; bytes that are not UTF-8 are replaced, since the numbers beside them are fine."""
    return block.decode("utf-8", "replace").split("\n") if len(block) <= MAX_LINE else _short_lines(block, place)


def _short_lines(block: bytes, place: _Place) -> Iterator[str]:
    for line in block.split(b"\n"):
        if len(line) > MAX_LINE:
            _too_long(place)
        else:
            yield line.decode("utf-8", "replace")


def _too_long(place: _Place) -> None:
    place.note(place.row, f"longer than {MAX_LINE >> 20} MiB, left out.")
    place.row += 1


def _probe(fd: int, start: int, count: int) -> list[Any]:
    """[bytes, digest] of `count` bytes from `start`."""
    found = os.pread(fd, count, start)
    return [len(found), blake2b(found, digest_size=6).hexdigest()]


def _head(fd: int) -> list[Any]:
    """[bytes, digest] of the first line, of at most its first KiB."""
    found = os.pread(fd, _PROBE, 0)
    return _probe(fd, 0, len(found.partition(b"\n")[0]))


def _same(fd: int, cursor: Cursor) -> bool:
    """Whether the file still begins, and before the cursor still ends, as the cursor remembers it.

    A file that became shorter does not: fewer bytes are there to be read.
    """
    offset, head, tail = cursor["offset"], cursor.get("head"), cursor.get("tail")
    if not head or not tail:
        return False
    return bool(_probe(fd, 0, head[0]) == head and _probe(fd, offset - tail[0], tail[0]) == tail)
