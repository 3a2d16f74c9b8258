"""Several sources of one run: which of them each metric is judged from. Pure.

A run may say the same loss in a status file, a JSONL log and TensorBoard, each with its own delays and
roundings. Judging one metric from two of them would see every value twice, so each (rank, metric) is judged
from exactly one source: the most trusted that gives it. What the others say of it is evidence and no more.

A more trusted source that comes later takes over, but only behind the step that was judged last, so that no
step is judged twice. A source that can no longer be seen gives its metrics back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from smart_monitor.model import RECORD, Record

MAX_METRICS = 20_000
"""(rank, metric) pairs that are kept apart; beyond them nothing new is judged."""


class Share(NamedTuple):
    """What becomes of one record."""

    judged: Record | None
    """The record with the values that are judged from its source; None if there are none."""
    evidence: Mapping[str, float]
    """Its other values."""


class _Owner:
    """From which source a metric is judged, and how far."""

    __slots__ = ("by", "source", "step")

    def __init__(self, source: str, step: int | None = None, by: str = "") -> None:
        self.source, self.step, self.by = source, step, by


class Merging:
    """Decides record by record; state is plain JSON. `order`: names of the sources, the most trusted first."""

    def __init__(self, order: Sequence[str], state: Mapping[str, Any] | None = None) -> None:
        self._trust = {name: at for at, name in enumerate(order)}
        self._owners: dict[tuple[int, str], _Owner] = {}
        for rank, metric, source, step, by in (state or {}).get("owners", []):
            self._owners[rank, metric] = _Owner(source, step, by)

    def state(self) -> dict[str, Any]:
        """What `Merging` takes."""
        return {"owners": [[rank, metric, o.source, o.step, o.by] for (rank, metric), o in self._owners.items()]}

    def share(self, record: Record) -> Share:
        """The part of `record` that is judged, and the rest. What is no record (a state) is judged as it is."""
        if record.kind != RECORD:
            return Share(record, {})
        names = [*record.values, *record.nulls]
        mine = {name for name in names if self._owns(record, name)}
        if len(mine) == len(names):
            return Share(record if names else None, {})
        if not mine:
            return Share(None, record.values)
        values = {name: value for name, value in record.values.items() if name in mine}
        judged = record._replace(values=values, nulls=tuple(n for n in record.nulls if n in mine))
        return Share(judged, {name: value for name, value in record.values.items() if name not in mine})

    def remember(self, record: Record) -> None:
        """The metrics of `record` were judged from its source, up to its step."""
        for metric in (*record.values, *record.nulls):
            if len(self._owners) < MAX_METRICS:
                self._owners[record.rank, metric] = _Owner(record.source, record.step, record.by)

    def release(self, source: str, *, anew: bool = False) -> None:
        """`source` can no longer be seen: whoever gives its metrics next is asked, behind the step judged last.

        `anew`: wherever that stands, since the run began anew without it.
        """
        for owner in self._owners.values():
            if owner.source == source:
                owner.source = ""
                owner.step = None if anew else owner.step

    def owners(self) -> dict[tuple[int, str], str]:
        """(rank, metric) -> the source that it is judged from."""
        return {key: owner.source for key, owner in self._owners.items() if owner.source}

    def _owns(self, record: Record, metric: str) -> bool:
        key = record.rank, metric
        owner = self._owners.get(key)
        if owner is None:
            if len(self._owners) >= MAX_METRICS:
                return False
            self._owners[key] = _Owner(record.source, record.step, record.by)
            return True
        if owner.source != record.source and not self._takes_over(record, owner):
            return False
        owner.source, owner.step, owner.by = record.source, record.step, record.by
        return True

    def _takes_over(self, record: Record, owner: _Owner) -> bool:
        last = len(self._trust)
        if owner.source and self._trust.get(record.source, last) >= self._trust.get(owner.source, last):
            return False
        if record.step is None or owner.step is None or record.by != owner.by:
            return True  # they count differently: nothing can be said about before and behind
        return record.step > owner.step


class Course:
    """Where the records of one source stand among those of others: steps, added up across restarts."""

    __slots__ = ("before", "place", "top")

    def __init__(self, before: float = 0, place: float = 0, top: float = 0) -> None:
        self.before, self.place, self.top = before, place, top

    def put(self, step: int | None) -> float:
        """The place of the next record, never before the last."""
        if step is not None:
            if step < self.top / 2:  # a restart; a little late is only late
                self.before, self.top = self.place, 0
            self.top = max(self.top, step)
            self.place = self.before + self.top
        return self.place

    def state(self) -> list[float]:
        """What `Course` takes."""
        return [self.before, self.place, self.top]
