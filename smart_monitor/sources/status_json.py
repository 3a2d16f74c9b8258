"""`training_status.json`: one JSON object that a trainer rewrites, atomically or in place.

The truth is a stat on (dev, ino, mtime_ns, size) of what the path leads to at this moment, links
followed; nothing is parsed while that stands still. A writer in place is caught in the middle now
and then: an empty or half-written file is looked at again after 50, 100 and 200 ms and is nobody's
error, unless it stays so for ten seconds.

A document that says idle, crashed or completed is a state and not an observation: many trainers
write loss 0.0 beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from smart_monitor.model import RECORD, STATE, Reading, Record
from smart_monitor.names import clean, read_row
from smart_monitor.sources import Cursor, Format, Options, Pass, Sight, finished
from smart_monitor.sources.documents import Torn, document_bytes, look_again, parse_json, refused, too_large
from smart_monitor.sources.files import CannotSee, identity_of, must_be_regular, shown, why
from smart_monitor.sources.marks import mark

FILE_NAME = "training_status.json"
RACY = 0.05
"""A file written in place so recently (s) may be written again within the same tick of its clock."""


class StatusFile:
    """The status file of the run at `base`, or the one that `base` is. `read` is the whole interface; never raises."""

    repeats = False

    def __init__(self, base: Path, run: str, max_bytes: int = 16 << 20, name: str = "status") -> None:
        self.name = name
        self.run = run
        self.max_bytes = max_bytes
        itself = base.name == FILE_NAME or base.is_file()
        self.paths = (str(base),) * 2 if itself else (str(base / "status" / FILE_NAME), str(base / FILE_NAME))
        self._at = self.paths[0]
        """Where it was last seen."""

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """Look once; `now_wall` in unix seconds, `now_mono` in seconds of a clock that never steps; `final` changes nothing."""
        try:
            path, found = self._find()
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), self.paths[0]))
        self._at = path
        identity = identity_of(found)
        if cursor.get("file") == identity and "again" not in cursor:
            reason = cursor.get("why", "")
            return Pass(cursor, Sight(not reason, reason, path))
        try:
            raw, found = document_bytes(path, self.max_bytes, found)
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), path))
        identity = identity_of(found)
        following = {k: v for k, v in cursor.items() if k not in ("again", "why", "torn")}
        written = cursor.get("file") != identity
        if raw is None:
            return refused(following, identity, path, too_large(path, identity[3], self.max_bytes))
        try:
            reading = self._parse(path, raw, cursor.get("state") is not None)
        except Torn as torn:
            return look_again(cursor, identity, path, str(torn), now_mono)
        except CannotSee as error:
            return refused(following, identity, path, str(error))
        following["file"] = identity
        if abs(now_wall - found.st_mtime) < RACY and not _was_renamed(found, cursor.get("file")):
            following["again"] = True
        seen = Pass(following, Sight(True, "", path))
        self._judge(reading, raw, now_wall, seen)
        seen.heartbeat = written and not seen.records
        return seen

    def unmoved(self, cursor: Cursor, now_mono: float) -> bool:
        """Does the file stand there as it was read, and no other beside it? Or is there still none?"""
        if "file" not in cursor:
            return not any(os.access(path, os.F_OK) for path in self.paths)
        if "again" in cursor or "why" in cursor or "torn" in cursor:
            return False
        path, other = self.paths if self._at == self.paths[0] else self.paths[::-1]
        try:
            return identity_of(os.stat(path)) == cursor.get("file") and (other == path or not os.access(other, os.F_OK))
        except OSError:
            return False

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """What it says now, numbered from 0. Raises CannotSee."""
        for index, record in enumerate(finished(self, tell)):
            yield record._replace(index=index)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `last` were read on from `cursor`; the file is looked at anew."""
        following = {k: v for k, v in cursor.items() if k not in ("file", "torn", "again", "why")}
        for record in last:
            following |= {"state": record.state, "ids": dict(record.ids)}
            if record.kind == RECORD:
                following["last"] = mark(record)
        return following

    def _find(self) -> tuple[str, os.stat_result]:
        """The file to read: the one in status/ unless only the other is usable, or is the newer."""
        usable: list[tuple[str, os.stat_result]] = []
        trouble: list[str] = []
        for path in self.paths:
            if usable and not os.access(path, os.F_OK):
                continue  # as usual, and told without an exception
            try:
                found = os.stat(path)
                must_be_regular(path, found)
                usable.append((path, found))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                trouble.append(why(path, error))
            except CannotSee as error:
                trouble.append(str(error))
        if not usable:
            raise CannotSee(trouble[0] if trouble else f"There is no {FILE_NAME} in {shown(os.path.dirname(self.paths[1]))} yet.")
        if len(usable) == 2 and usable[1][1].st_mtime_ns > usable[0][1].st_mtime_ns:
            return usable[1]
        return usable[0]

    def _parse(self, path: str, raw: bytes, known: bool) -> Reading:
        """The document as a reading. Raises Torn if it may be half-written, CannotSee if it is not ours."""
        document = parse_json(raw, path)
        if not isinstance(document, dict):
            raise CannotSee(f"{shown(path)} holds {_kind(document)} where a training status is one JSON object.")
        reading = read_row(document)
        if not reading.recognised and not (known and reading.state):
            keys = ", ".join(clean(k, 24) for k in list(document)[:6])
            raise CannotSee(f"{shown(path)} does not look like a training status (no loss, no step); its keys: {keys}.")
        return reading

    def _judge(self, reading: Reading, raw: bytes, now_wall: float, seen: Pass) -> None:
        """Add the records that `reading` makes against the cursor's last one, and move the cursor on."""
        cursor = seen.cursor
        last_state, last_ids = cursor.get("state"), cursor.get("ids")
        cursor |= {"state": reading.state, "ids": reading.ids}
        seen.oddities, seen.odd = reading.oddities, len(reading.oddities)
        if reading.state in ("idle", "crashed", "completed"):
            if reading.state != last_state or reading.ids != last_ids:
                self._add(seen, reading, raw, now_wall, STATE)
            return
        if reading.state == "training" and last_state in ("idle", "crashed", "completed"):
            self._add(seen, reading, raw, now_wall, STATE)
        now = mark(reading)
        if now != cursor.get("last"):
            cursor["last"] = now
            self._add(seen, reading, raw, now_wall, RECORD)

    def _add(self, seen: Pass, reading: Reading, raw: bytes, now_wall: float, kind: str) -> None:
        judged = kind == RECORD
        seen.raws[len(seen.records)] = raw
        seen.records.append(
            Record(
                run=self.run, source=self.name, index=-1, step=reading.step, by=reading.by, epoch=reading.epoch,
                time=reading.time, seen=now_wall, values=reading.values if judged else {}, rank=reading.rank, total=reading.total,
                nulls=reading.nulls if judged else (), ids=reading.ids, kind=kind, state=reading.state, note=reading.note,
            )
        )  # fmt: skip


def _kind(document: object) -> str:
    if document is None:
        return "null"
    if isinstance(document, list):
        return "a list"
    return "a string" if isinstance(document, str) else "a bare number or truth value"


def _was_renamed(found: os.stat_result, before: list[int] | None) -> bool:
    """Did the file come here by a rename? Then its writer is done with it: nothing more comes in the same tick.

    A rename is told by the change time, or, within one tick, by another inode than `before` (`identity_of`).
    """
    return found.st_ctime_ns > found.st_mtime_ns or (before is not None and found.st_ino != before[1])


def _run_of(path: Path) -> Path:
    """The run that a status file belongs to."""
    return path.parent.parent if path.parent.name == "status" else path.parent


def _open(base: Path, run: str, name: str, options: Options) -> StatusFile:
    return StatusFile(base, run, options.max_bytes, name or "status")


FORMAT = Format(
    name="status", title="the status file", patterns=(FILE_NAME,), order=80, open=_open, place=_run_of,
    index="what it said, one after the other",
)  # fmt: skip
