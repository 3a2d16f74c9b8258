"""One of the sources of a run: where its reading stands, what was read ahead of the others, how much it gave."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smart_monitor.discovery import Seen
from smart_monitor.merging import Course
from smart_monitor.model import RECORD, Record
from smart_monitor.sources import Cursor, Pass, Sight, Source, Steady, formats
from smart_monitor.sources.marks import mark

QUIET_COST = 1000.0
"""A look that brought nothing and took a second of CPU is not repeated for so many,"""
QUIET_MOST = 2.0
"""but for so many seconds at most."""
QUIET_LEAST = 0.001
"""Seconds of CPU below which a look costs nothing."""


def entry_of(name: str, seen: Seen, base: Path) -> dict[str, Any]:
    """The beginning of `seen`, as plain JSON."""
    place = os.path.relpath(seen.place, base)
    return {"name": name, "format": seen.format.name, "place": "" if place == "." else place, "rank": seen.rank}


def described(base: Path, entry: Mapping[str, Any]) -> Seen | None:
    """The place that an entry is of; None if nobody knows its format."""
    found = next((f for f in formats() if f.name == entry["format"]), None)
    return None if found is None else Seen(found, base / entry["place"], 0.0, 1, entry["rank"])


def amount(told: Mapping[str, Any]) -> str:
    """How much of what a source said was seen, from `Part.told`: "412 of 500 steps", "all 50 rows, one in 10 steps"."""
    rows, steps = told["records"], told["steps"]
    if not told["every_row"]:
        return f"{rows} of {steps} steps" if steps else f"{rows} values"
    pace = steps / rows if rows else 0.0
    seldom = f", one in {pace:.0f} steps" if pace >= 1.5 else ""
    return f"all {rows} rows{seldom}" if rows != 1 else "1 row"


class Part:
    """`entry` is where it stands, as `state` gave it; `heard` monotonic seconds of its last record."""

    def __init__(self, seen: Seen, entry: dict[str, Any], source: Source, heard: float) -> None:
        self.seen, self.heard = seen, heard
        self.use(source)
        self.name: str = entry["name"]
        self.key = seen.format.name, seen.place
        self._place: str = entry["place"]
        self.late = bool(entry.get("late"))
        """Trusted after all others: what it holds is of an earlier start."""
        self.sight = Sight(False, "not looked yet", str(seen.place))
        self.ahead: deque[tuple[float, Record, bytes | None, list[float]]] = deque()
        """Place, record, its bytes, and the course behind it."""
        self.retry: float | None = None
        self.torn = self.moved = self.released = False
        self.rows: int = entry.get("rows", 0)
        """Records that it gave, judged or not."""
        self.steps: int = entry.get("steps", 0)
        """Steps that training took meanwhile."""
        self.last: int | None = entry.get("last")
        self.newest: float | None = entry.get("newest")
        """Unix seconds of its newest record."""
        self._given: list[float] = entry.get("course", [])
        self._course = Course(*self._given)
        self._again: dict[str, int] = dict(entry.get("again", {}))
        self._mark: str = entry.get("mark", "")
        self._before: Cursor = entry.get("cursor", {})
        self._after = self._before
        self._taken: dict[str, Record] = {}
        self._count = 0
        self._lost: float | None = None
        self._next = float("-inf")
        self._state: dict[str, Any] | None = entry

    def use(self, source: Source) -> None:
        """Read by this one from now on."""
        self.source = source
        self._steady = source if isinstance(source, Steady) else None

    @property
    def every_row(self) -> bool:
        """Does what is read now tell of all that was written before?"""
        return self.seen.format.name != "status"

    def trust(self) -> tuple[bool, int, int, str]:
        """To sort by, the most trusted first."""
        return self.late, self.seen.format.order, self.seen.rank or 0, self.name

    def take_up(self, last: Sequence[Record], counts: Mapping[str, int]) -> None:
        """What was given since the cursor was saved is not given again."""
        self._before = self._after = self.source.resumed(self._after, last, 0)
        if self.source.repeats:
            for file, count in counts.items():
                self._again[file] = self._again.get(file, 0) + count
        else:
            self._mark = next((mark(r) for r in last if r.kind == RECORD), "")
        self._state = None

    def due(self, now_mono: float) -> bool:
        """Is it to be looked at? What costs much and brings nothing rests a little."""
        return self.retry is not None or not self._next - QUIET_MOST <= now_mono < self._next

    @property
    def more(self) -> bool:
        """Has it more than one look takes?"""
        return self.retry == 0.0

    @property
    def rests(self) -> bool:
        """Is there nothing to do for it until it is written to?"""
        return self.retry is None and not self.ahead and not self.torn and (self.sight.ok or not self.rows)

    def unmoved(self, now_mono: float) -> bool:
        """Would a look bring nothing, for certain?"""
        return self._steady is not None and self.rests and self._steady.unmoved(self._after, now_mono)

    @property
    def reached(self) -> float:
        """The place up to which it is known."""
        return self._course.place

    def look(self, now_wall: float, now_mono: float, final: bool) -> Pass:
        """Read on."""
        began = time.thread_time()
        seen = self.source.read(self._after, now_wall, now_mono, final)
        taken = time.thread_time() - began
        self.moved = seen.cursor is not self._after or seen.sight != self.sight
        self._before, self._after = self._after, seen.cursor
        self._taken, self._count = {}, 0
        self.sight, self.retry, self.torn = seen.sight, seen.retry_in, seen.torn
        for at, record in enumerate(seen.records):
            if self.seen.rank is not None and not record.rank:
                record = record._replace(rank=self.seen.rank)
            if final and self.every_row:  # it stood there, nobody knows since when; that it was read now means nothing
                record = record._replace(seen=None)
            place = self._course.put(record.step)
            self.ahead.append((place, record, seen.raws.get(at), self._course.state()))
        quiet = not self.moved and taken > QUIET_LEAST
        self._next = now_mono + min(QUIET_MOST, QUIET_COST * taken) if quiet else float("-inf")
        if self.moved:
            self._state = None
        if seen.sight.ok:
            self._lost, self.released = None, False
        elif self._lost is None:
            self._lost = now_mono
        return seen

    def unseen(self, now_mono: float) -> float:
        """Seconds since it can't be seen."""
        return 0.0 if self._lost is None else now_mono - self._lost

    def give(self, at: int, horizon: float) -> Iterator[tuple[float, int, Record, bytes | None]]:
        """(place, `at`, record, bytes) of what was read ahead, up to the place `horizon`."""
        while self.ahead and self.ahead[0][0] <= horizon:
            place, record, raw, self._given = self.ahead.popleft()
            self._taken.pop(record.kind, None)
            self._taken[record.kind] = record
            self._count += 1
            self._state = None
            if record.kind == RECORD:
                self._observe(record)
            yield place, at, record, raw

    def _observe(self, record: Record) -> None:
        self.rows += 1
        step, last = record.step, self.last
        if step is not None:
            self.steps += 1 if last is None or step < last else step - last
            self.last = step
        self.newest = record.seen if record.time is None else record.time
        if self.newest is None:
            self.newest = self.seen.written

    def was_given(self, judged: Record) -> bool:
        """Was this given before a crash?"""
        if self._again:
            file = judged.ids.get("file", "")
            left = self._again.get(file, 0)
            if left > 1:
                self._again[file] = left - 1
            elif left:
                del self._again[file]
            return left > 0
        if self._mark and judged.kind == RECORD:
            known, self._mark = self._mark, ""
            return known == mark(judged)
        return False

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain JSON: behind what was given."""
        if self._state is None:
            cursor = self._after
            if self.ahead:
                cursor = (
                    self.source.resumed(self._before, list(self._taken.values()), self._count) if self._count else self._before
                )
            self._state = {
                "name": self.name, "format": self.seen.format.name, "place": self._place, "rank": self.seen.rank,
                "late": self.late, "cursor": cursor, "course": self._given, "rows": self.rows, "steps": self.steps,
                "last": self.last,
                "newest": self.newest, "again": dict(self._again), "mark": self._mark,
            }  # fmt: skip
        return self._state

    def told(self) -> dict[str, Any]:
        """What is to be known of it, for people and programs."""
        return {
            "name": self.name, "format": self.seen.format.name, "title": self.seen.format.title, "path": self.sight.path,
            "ok": self.sight.ok, "why": self.sight.why, "records": self.rows, "steps": self.steps, "last_step": self.last,
            "newest": self.newest, "every_row": self.every_row,
        }  # fmt: skip
