"""Joining metrics that were logged one by one into rows: what stands at one step is one record.

Nothing says when a step's last metric has come, and waiting for the next step would make every alarm one
logging interval late. So the sets of names that made whole rows are remembered: a row that is one of them,
and not merely a part of a larger one, is complete at once. Any other is complete when the next step begins,
or when nothing has been written for a while. All of that follows from the bytes alone, but for the last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from smart_monitor.names import MAX_METRICS

SETS = 8
"""Sets remembered; a name met in one of them belongs to no smaller row."""
FORGET = 64
"""Rows after which a set that was not met again is forgotten."""


class Row(NamedTuple):
    """What was logged at one step."""

    step: int
    time: float
    """Of its last metric."""
    values: dict[str, float]


class Joiner:
    """Takes metrics one by one, gives rows. Its state is plain JSON."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._rows: int = state.get("rows", 0)
        self._sets: dict[frozenset[str], int] = {frozenset(names): row for names, row in state.get("sets", [])}
        """Each with the number of the row that it last made."""
        self._sizes = {len(names) for names in self._sets}
        waiting = state.get("row")
        # Spelled out, since JSON has no NaN.
        self._row = Row(waiting[0], float(waiting[1]), {k: float(v) for k, v in waiting[2].items()}) if waiting else None

    def state(self) -> dict[str, Any]:
        """What `Joiner` takes."""
        row = self._row
        waiting = [row.step, repr(row.time), {k: repr(v) for k, v in row.values.items()}] if row else None
        return {"rows": self._rows, "sets": [[sorted(names), at] for names, at in self._sets.items()], "row": waiting}

    def add(self, step: int, time: float, name: str, value: float) -> list[Row]:
        """Take one metric in; the rows that are complete with it, at most two."""
        done: list[Row] = []
        row = self._row
        if row is not None and (step != row.step or name in row.values or len(row.values) >= MAX_METRICS):
            if step != row.step:
                self._learn(frozenset(row.values))
            done.append(row)
            row = None
        if row is None:
            row = Row(step, time, {name: value})
        else:
            row.values[name] = value
            if time > row.time:
                row = Row(step, time, row.values)
        if len(row.values) in self._sizes and self._complete(frozenset(row.values)):
            done.append(row)
            row = None
        self._row = row
        return done

    def flush(self) -> list[Row]:
        """The row that waits, as it is."""
        done = [self._row] if self._row is not None else []
        self._row = None
        return done

    def _complete(self, names: frozenset[str]) -> bool:
        if names not in self._sets:
            return False
        since = self._rows - FORGET
        if len(self._sets) > 1 and any(names < other and at >= since for other, at in self._sets.items()):
            return False
        self._rows += 1
        self._sets[names] = self._rows
        return True

    def _learn(self, names: frozenset[str]) -> None:
        self._rows += 1
        self._sets[names] = self._rows
        if len(self._sets) > SETS:
            del self._sets[min(self._sets, key=self._sets.__getitem__)]
        self._sizes = {len(known) for known in self._sets}
