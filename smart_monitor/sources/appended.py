"""Files that a trainer only appends to: where reading stands, whether the file is still the same, rotation.

A format says how bytes become rows (`AppendedFile.decode`); everything around it is here, once. The
cursor stands behind the last whole unit (line, block); what is torn waits there.

Whether a file is still the one that the cursor knows is asked of its content (its first line and the
bytes before the cursor, up to 1 KiB each) and not of its inode: some writers replace the whole file at
every row, and device numbers may change with the machine's start. If the content is another, the file
it was may have been rotated away: a neighbour with that content is read to its end first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from smart_monitor.model import Record
from smart_monitor.names import clean
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.files import CannotSee, identity_of, must_be_regular, open_regular, shown, why

CHUNK = 256 << 10
MAX_PASS = 512 << 10
"""Bytes after which a pass ends and asks to be called again: a catching-up holds up nobody and little memory."""
FOREIGN_AFTER = 20
"""Rows without anything of training in them after which the file counts as foreign."""
PROBE = 1024
QUIET = 5.0
"""Seconds without a new byte after which what waits for more is taken as it is, if it is whole by itself."""
_MAX_ODDITIES = 8
_MAX_NEIGHBOURS = 2000

_KEPT = ("offset", "row", "turn", "skipping", "known", "head", "first", "inner")


@dataclass(slots=True)
class Place:
    """Where reading stands in a file, and what could not be used on the way."""

    offset: int = 0
    row: int = 0
    turn: int = 0
    """How often the file became another one."""
    skipping: bool = False
    """Inside a line of which no more is taken: it is too long, or was taken before its newline came."""
    still: bool = False
    """Has nothing been written for a while?"""
    known: bool = False
    """Has any row had something of training in it?"""
    head: list[Any] | None = None
    """[bytes, digest] of the file's beginning, once that is settled."""
    first: str = ""
    """The digest by which the file is named in `Record.ids`: rotation does not change it."""
    inner: dict[str, Any] = field(default_factory=dict)
    """What the format has to remember; plain JSON, never changed in place."""
    odd: int = 0
    oddities: list[str] = field(default_factory=list)

    def note(self, index: int, what: str) -> None:
        """Remember that something at row `index` could not be used."""
        self.say(f"row {index}: {what}")

    def say(self, sentence: str) -> None:
        """Remember an oddity; the first few are told, all are counted."""
        self.odd += 1
        if len(self.oddities) < _MAX_ODDITIES:
            self.oddities.append(sentence)

    def begun(self, fd: int, *, named: bool = True, settled: int = 0) -> dict[str, str]:
        """The ids of the file's records. To be asked once the first line, or the first `settled` bytes, have been read.

        By these the file is `named`.
        """
        self.head = self.head or (probe(fd, 0, min(PROBE, settled)) if settled else first_line(fd))
        if named:
            self.first = self.first or str(self.head[1])
        return {"file": f"{self.first}.{self.turn}"}

    def kept(self) -> Cursor:
        """The place as part of a cursor."""
        return {name: getattr(self, name) for name in _KEPT}


def place_of(cursor: Cursor) -> Place:
    """The place that a cursor describes."""
    return Place(**{name: cursor[name] for name in _KEPT if name in cursor})


class AppendedFile:
    """The rows of one file. `read` never raises; a format gives `decode`."""

    closes = False
    """Can a last line be known to be whole before its newline comes? Then it is taken once the file has been QUIET."""
    rotates = True
    """Are rows drained from a neighbour into which the file was rotated?"""
    repeats = True

    def __init__(self, path: Path, run: str, name: str = "") -> None:
        self.path = str(path)
        self.run = run
        self.name = name or clean(os.path.basename(self.path))

    @property
    def paths(self) -> Sequence[str]:
        return (self.path,)

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[Sequence[Record]]:
        """The records behind `place`, in batches; with each, `place` has moved behind what gave them.

        `final`: also what is not closed by a newline or the like yet. Raises OSError only.
        """
        raise NotImplementedError

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """The rows since `cursor`; `final` also takes a last line that has no newline.

        At most about MAX_PASS bytes: `retry_in` is 0 when there is more.
        """
        try:
            found = os.stat(self.path)
            must_be_regular(self.path, found)
            identity = identity_of(found)
            waits = cursor.get("waits")
            waited = waits is not None and not 0 <= now_mono - waits < QUIET
            if cursor.get("file") == identity and not final and not waited:
                return Pass(cursor, self._sight(cursor))
            fd, _ = open_regular(self.path)
        except OSError as error:
            return Pass(cursor, Sight(False, why(self.path, error), self.path))
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), self.path))
        try:
            return self._since(fd, cursor, now_wall, now_mono, final)
        except OSError as error:
            return Pass(cursor, Sight(False, why(self.path, error), self.path))
        finally:
            os.close(fd)

    def unmoved(self, cursor: Cursor, now_mono: float) -> bool:
        """Does the file stand there as it was read, with no line or table that is waited for?"""
        if "waits" in cursor or "known" in cursor.get("inner", ()):
            return False
        try:
            return identity_of(os.stat(self.path)) == cursor.get("file")
        except OSError:
            return False

    def whole(self, tell: Callable[[str], None] = lambda _: None) -> Iterator[Record]:
        """Every record of the finished file, in constant memory and without `seen`; oddities are told on the way.

        Raises CannotSee (one sentence) or OSError.
        """
        fd, _ = open_regular(self.path)
        try:
            place = Place()
            for batch in self.decode(fd, place, None, True):
                for oddity in place.oddities:
                    tell(oddity)
                place.oddities.clear()
                yield from batch
        finally:
            os.close(fd)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `count` records that reading on from `cursor` gave: they are passed over."""
        skip = cursor.get("skip", 0) + count
        return {k: v for k, v in cursor.items() if k != "file"} | {"skip": skip} if count else cursor

    def _since(self, fd: int, cursor: Cursor, now_wall: float, now_mono: float, final: bool) -> Pass:
        found = os.fstat(fd)  # before reading: what comes later changes it again
        identity = identity_of(found)
        place, skip = place_of(cursor), cursor.get("skip", 0)
        # By the file's own time, which tells at once of one that was left long ago; and by ours, for clocks may disagree.
        still = now_wall - found.st_mtime >= QUIET or (cursor.get("file") == identity and "waits" in cursor)
        records: list[Record] = []
        before, drained = place.offset, True
        tail: list[Any] = []
        if place.offset and not same(fd, cursor):
            old = rotated(self.path, cursor) if self.rotates else None
            if old is None:
                turn, place = place.turn, self.replaced(fd, place, cursor)
                if turn != place.turn:
                    place.say(f"{shown(self.path)} was truncated or replaced and is read from its beginning.")
                    skip = 0
            else:
                drained = not self._take(old, place, records, now_wall, True)
                tail = tail_of(old, place.offset)
                os.close(old)
                if drained:
                    place.offset, place.head, place.skipping = 0, None, False
        place.still = still
        more = not drained or self._take(fd, place, records, now_wall, final)
        moved = place.offset != before
        following: Cursor = place.kept() | {"tail": tail if not drained else tail_of(fd, place.offset)}
        if not more:
            following["file"] = identity
            if self.closes and not still and place.offset < found.st_size:
                following["waits"] = now_mono
        if skip:
            following["skip"] = max(0, skip - len(records))
            del records[:skip]
        return Pass(
            following, self._sight(following), records, heartbeat=moved and not records,
            retry_in=0.0 if more else None, oddities=tuple(place.oddities), odd=place.odd,
        )  # fmt: skip

    def replaced(self, fd: int, place: Place, cursor: Cursor) -> Place:
        """Where to begin in a file that is not the one that `place` was of; another `turn` makes it another file."""
        return Place(turn=place.turn + 1)

    def _take(self, fd: int, place: Place, records: list[Record], seen: float, final: bool) -> bool:
        """Add what stands behind `place`, up to MAX_PASS; is there more?"""
        start = place.offset
        for batch in self.decode(fd, place, seen, final):
            records += batch
            if place.offset - start >= MAX_PASS:
                return True
        return False

    def _sight(self, cursor: Cursor) -> Sight:
        if not cursor.get("known") and cursor.get("row", 0) >= FOREIGN_AFTER:
            return Sight(False, f"{shown(self.path)} does not look like training metrics: no row has step or loss.", self.path)
        return Sight(True, "", self.path)


def text_lines(fd: int, place: Place, final: bool, limit: int) -> Iterator[list[bytes]]:
    """Batches of whole lines from `place` on, which moves behind each; what is longer than `limit` bytes is blank, and noted."""
    for block in blocks(fd, place, final, limit):
        found = [b""] if block is None else block.split(b"\n")
        long = [at for at, line in enumerate(found) if len(line) > limit]
        for at in long:
            found[at] = b""
        for _ in range(len(long) + (block is None)):
            place.say(f"a line longer than {limit >> 10} KiB is left out.")
        yield found


def blocks(
    fd: int, place: Place, final: bool, limit: int, *, returns: bool = False, closed: Callable[[bytes], bool] | None = None
) -> Iterator[bytes | None]:
    """Runs of whole lines from `place` on, which moves behind each.

    None at the beginning of a line beyond `limit` that is not whole yet, then empty ones while it is skipped.
    With `returns` a carriage return ends a line, too, and is given as a newline. A last line without one is given if
    it is `closed`, or if reading is `final`; what follows on it later is skipped.
    """
    pending = b""
    while True:
        chunk = os.pread(fd, CHUNK, place.offset + len(pending))
        if not chunk:
            if pending and (final or (closed is not None and closed(pending))):
                place.offset += len(pending)
                place.skipping = True
                yield pending
            return
        if returns:
            chunk = chunk.replace(b"\r", b"\n")
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
        if len(pending) > limit:
            place.offset += len(pending)
            place.skipping = True
            pending = b""
            yield None


def probe(fd: int, start: int, count: int) -> list[Any]:
    """[bytes, digest] of `count` bytes from `start`."""
    found = os.pread(fd, count, start)
    return [len(found), blake2b(found, digest_size=6).hexdigest()]


def first_line(fd: int) -> list[Any]:
    """[bytes, digest] of the first line, of at most its first KiB."""
    found = os.pread(fd, PROBE, 0)
    return probe(fd, 0, len(found.partition(b"\n")[0]))


def tail_of(fd: int, offset: int) -> list[Any]:
    """[bytes, digest] of what stands before `offset`."""
    return probe(fd, max(0, offset - PROBE), min(PROBE, offset))


def same(fd: int, cursor: Cursor) -> bool:
    """Whether the file still begins, and before the cursor still ends, as the cursor remembers it.

    A file that became shorter does not: fewer bytes are there to be read.
    """
    offset, head, tail = cursor["offset"], cursor.get("head"), cursor.get("tail")
    if not tail:
        return False
    return bool((not head or probe(fd, 0, head[0]) == head) and probe(fd, offset - tail[0], tail[0]) == tail)


def rotated(path: str, cursor: Cursor) -> int | None:
    """A descriptor of the neighbour that holds what the file at `path` was; None if there is none.

    Rotation names it after the file (`m.jsonl.1`, `m.1.jsonl`, `m-20260101.jsonl`); its content decides.
    """
    directory, own = os.path.split(path)
    stem = own.partition(".")[0]
    try:
        with os.scandir(directory or ".") as entries:
            names = [e.name for e, _ in zip(entries, range(_MAX_NEIGHBOURS), strict=False)]
    except OSError:
        return None
    for name in sorted(n for n in names if n.startswith(stem) and n != own):
        try:
            fd, _ = open_regular(os.path.join(directory, name))
        except CannotSee:
            continue
        try:
            if same(fd, cursor):
                return fd
        except OSError:
            pass
        os.close(fd)
    return None
