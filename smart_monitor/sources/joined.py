"""Several append-only files of one run that are read as one source: metrics in order of their time, joined into rows.

Of every file as much is read as has come; where one has more than a pass may take, no other is read beyond
the time that it has reached. A file's cursor stands behind the last metric that was taken in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.model import Record
from smart_monitor.names import clean, read_row
from smart_monitor.sources import Cursor, Pass, Sight, finished, record_of
from smart_monitor.sources.appended import QUIET, Place, place_of, probe
from smart_monitor.sources.files import CannotSee, identity_of, open_regular, shown, why
from smart_monitor.sources.grouping import Joiner, Row

SLICE = 2000
"""Metrics read ahead of one file at a time."""
MAX_RECORDS = 4000
"""Records after which a pass ends and asks to be called again."""
MAX_FILES = 512
NEWEST = 8
"""Files that are named to who asks what is read: somebody may hold them open."""
_HEAD = 64


class Item(NamedTuple):
    """Metrics that one entry of a file gives."""

    time: float
    step: int
    values: Sequence[tuple[str, float]]
    end: int
    """Where the entry ends in the file."""
    inner: dict[str, Any]
    """What the format remembers behind it."""


class _Open:
    """One file in one pass."""

    def __init__(self, name: str, fd: int, place: Place, items: Iterator[Item], identity: list[int]) -> None:
        self.name, self.fd, self.place = name, fd, place
        self.items = items
        self.identity = identity
        """From before it was read: what comes meanwhile changes it again."""
        self.ahead: list[Item] = []
        self.more = True
        self.taken = 0
        """How many of those read ahead have been taken in."""

    def fill(self) -> None:
        """Read ahead."""
        while self.more and len(self.ahead) < SLICE:
            item = next(self.items, None)
            if item is None:
                self.more = False
            else:
                self.ahead.append(item)


class JoinedFiles:
    """The files of one directory. `read` never raises; a format gives `files` and `items`."""

    apart = True
    """Does each file have rows of its own? Otherwise the metrics of all are joined."""
    missing = "no metrics"
    repeats = False
    """A row that was taken after a pause is joined with what came later when it is read again."""

    def __init__(self, base: Path, run: str, name: str) -> None:
        self.base = base
        self.run = run
        self.name = clean(name)
        self._newest: list[str] = []

    @property
    def paths(self) -> Sequence[str]:
        return (f"{self.base}/", *self._newest)

    def files(self) -> list[tuple[str, str]]:
        """(name, path) of the files, in the order in which they were begun. Raises OSError."""
        raise NotImplementedError

    def items(self, fd: int, name: str, place: Place, final: bool) -> Iterator[Item]:
        """What stands behind `place` in the file `name`, entry by entry; oddities go to `place`. Raises OSError only.

        Items of no values move the cursor on.
        """
        raise NotImplementedError

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """The rows since `cursor`; `final` takes rows that may not be complete. `retry_in` is 0 when there is more."""
        try:
            files = self.files()[-MAX_FILES:]
            self._newest = [path for _, path in files[-NEWEST:]]
        except OSError as error:
            return Pass(cursor, Sight(False, why(str(self.base), error), str(self.base)))
        if not files:
            return Pass(cursor, Sight(False, f"There is {self.missing} in {shown(str(self.base))} yet.", str(self.base)))
        opened: list[_Open] = []
        try:
            return self._pass(files, opened, cursor, now_wall, now_mono, final)
        except OSError as error:
            return Pass(cursor, Sight(False, why(str(self.base), error), str(self.base)))
        finally:
            for file in opened:
                os.close(file.fd)

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """Every row of the files. Raises CannotSee."""
        return finished(self, tell)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `last`: what was logged up to its time is passed over."""
        times = [[r.time, r.step or 0] for r in last if r.time is not None]
        if not times:
            return cursor
        after = max(times)
        joiners = cursor.get("joiners", {})
        waiting = {k: s if s["row"] is None or float(s["row"][1]) > after[0] else s | {"row": None} for k, s in joiners.items()}
        return cursor | {"files": _unread(cursor), "joiners": waiting, "after": after}

    def _pass(
        self, files: list[tuple[str, str]], opened: list[_Open], cursor: Cursor, now_wall: float, now_mono: float, final: bool
    ) -> Pass:
        known: dict[str, Any] = cursor.get("files", {})
        kept: dict[str, Any] = {}
        trouble = ""
        for name, path in files:
            try:
                opened += self._opened(name, path, known.get(name), kept, final)
            except CannotSee as error:
                trouble = str(error)
                if name in known:
                    kept[name] = known[name]
        if not opened and not self._waits(cursor, now_mono) and not final:
            return Pass(cursor, Sight(bool(kept), "" if kept else trouble, str(self.base)))
        result = Pass(dict(cursor), Sight(bool(kept or opened), "" if kept or opened else trouble, str(self.base)))
        joiners = {key: Joiner(state) for key, state in cursor.get("joiners", {}).items() if key in dict(files) or not self.apart}
        rows = self._merge(opened, joiners, result)
        for file in opened:
            place = file.place
            place.head = place.head or (probe(file.fd, 0, min(_HEAD, place.offset)) if place.offset else None)
            entry = place.kept()
            if not file.more and not file.ahead:
                entry["at"] = file.identity
            kept[file.name] = entry
            result.oddities += tuple(place.oddities)[: 8 - len(result.oddities)]
            result.odd += place.odd
        quiet = cursor.get("quiet")
        if opened or quiet is None or now_mono < quiet:
            quiet = now_mono
        if (now_mono - quiet >= QUIET or final) and result.retry_in is None:
            for joiner in joiners.values():
                rows += joiner.flush()
        result.cursor |= {"files": kept, "quiet": quiet, "joiners": {k: j.state() for k, j in joiners.items()}}
        self._give(rows, result, now_wall)
        result.heartbeat = bool(opened) and not result.records
        return result

    @staticmethod
    def _waits(cursor: Cursor, now_mono: float) -> bool:
        """Is there a row that has waited for long enough, or a clock that began anew?"""
        quiet = cursor.get("quiet", now_mono)
        return not 0 <= now_mono - quiet < QUIET and any(state["row"] for state in cursor.get("joiners", {}).values())

    def _opened(self, name: str, path: str, known: Cursor | None, kept: dict[str, Any], final: bool) -> list[_Open]:
        """The file, if there may be something new in it; otherwise its entry is kept. Raises CannotSee."""
        try:
            if known is not None and known.get("at") == identity_of(os.stat(path)) and not final:
                kept[name] = known
                return []
        except OSError as error:
            raise CannotSee(why(path, error)) from None
        fd, found = open_regular(path)
        place = place_of(known or {})
        if place.offset and (found.st_size < place.offset or (place.head and probe(fd, 0, place.head[0]) != place.head)):
            place = Place(turn=place.turn + 1)
            place.say(f"{shown(path)} was truncated or replaced and is read from its beginning.")
        return [_Open(name, fd, place, self.items(fd, name, place, final), identity_of(found))]

    def _merge(self, opened: list[_Open], joiners: dict[str, Joiner], result: Pass) -> list[Row]:
        """The rows that are complete, the files' entries in order of time."""
        rows: list[Row] = []
        while len(rows) < MAX_RECORDS:
            for file in opened:
                file.fill()
            horizon = min((max(i.time for i in file.ahead) for file in opened if file.more), default=float("inf"))
            ready = [
                (time, 0 if self.apart else item.step, at, n, item)
                for at, file in enumerate(opened)
                for n, (time, item) in enumerate(_up_to(file, horizon))
            ]
            if not ready:
                break
            if len(opened) > 1:
                ready.sort(key=_by_time)
            for time, _, at, _, item in ready:
                file = opened[at]
                file.place.offset, file.place.inner = item.end, item.inner
                file.taken += 1
                if self._told(time, item, result.cursor):
                    continue
                key = file.name if self.apart else ""
                joiner = joiners.get(key)
                if joiner is None:
                    joiner = joiners[key] = Joiner()
                for name, value in item.values:
                    if done := joiner.add(item.step, item.time, name, value):
                        rows += done
            for file in opened:
                del file.ahead[: file.taken]
                file.taken = 0
        if any(file.more or file.ahead for file in opened):
            result.retry_in = 0.0
        return rows

    @staticmethod
    def _told(time: float, item: Item, cursor: Cursor) -> bool:
        """Was this told before a crash? The first that was not ends the question."""
        after = cursor.get("after")
        if after is None:
            return False
        if [time, item.step] <= after:
            return True
        del cursor["after"]
        return False

    def _give(self, rows: list[Row], result: Pass, now_wall: float) -> None:
        """The rows as records, numbered on."""
        index = result.cursor.get("row", 0)
        for row in rows:
            reading = read_row(self.row(row))
            if not reading.values and not reading.nulls:
                continue
            result.records.append(record_of(self.run, self.name, index, reading, {}, now_wall))
            result.odd += len(reading.oddities)
            result.oddities += reading.oddities[: 8 - len(result.oddities)]
            index += 1
        result.cursor["row"] = index

    def row(self, row: Row) -> dict[str, Any]:
        """A row under the names of its metrics, with its step and time."""
        # The first of all names for a step, so that a metric of such a name can't take its place.
        return {**row.values, "current_step": row.step, "timestamp": row.time}


def _up_to(file: _Open, horizon: float) -> list[tuple[float, Item]]:
    """The items read ahead that come before anything that is not read yet, each with the time to sort it by.

    A clock that was set back does not change the order within a file.
    """
    found, top = [], float("-inf")
    for item in file.ahead:
        top = max(top, item.time)
        if top > horizon:
            break
        found.append((top, item))
    return found


_by_time = itemgetter(0, 1, 2, 3)


def _unread(cursor: Cursor) -> Cursor:
    """The files' entries, each to be looked at anew."""
    return {name: {k: v for k, v in entry.items() if k != "at"} for name, entry in cursor.get("files", {}).items()}
