"""Whom to ask about a row: worked out once for each kind of row, since a run writes few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from smart_monitor.rules import Moment, Rule, Verdict

MOST = 64


Asked = tuple[Rule, str, str, Callable[[Moment, str], Verdict | None]]
"""(rule, its key among the episodes, metric, its `judge`): how a rule is asked about one metric (or, with an
empty one, about a line). A bare tuple, which is taken apart in half the time, twenty times a record."""


class Plan(NamedTuple):
    """What is to be done with a row of certain metrics: whom to ask, in order, and which baselines learn."""

    asked: list[Asked]
    learn: list[str]


class Plans:
    """The plans made lately, by the names of a row's values."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], Plan] = {}
        self.of = self._made.get

    def make(
        self, names: tuple[str, ...], by_metric: Mapping[str, Iterable[Asked]], always: Iterable[Asked], learners: Iterable[str]
    ) -> Plan:
        """The plan for a row of `names`: those who are asked about them, then those who always are."""
        asked = [a for metric, group in by_metric.items() if metric in names for a in group]
        plan = Plan([*asked, *always], [metric for metric in learners if metric in names])
        if len(self._made) >= MOST:
            self._made.clear()
        self._made[names] = plan
        return plan
