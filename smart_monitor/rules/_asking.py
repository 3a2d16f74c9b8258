"""Whom to ask about a row: worked out once for each kind of row, since a run writes few."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict
from smart_monitor.stats.baseline import Baseline

MOST = 64
ACCURACIES = ("accuracy", "eval_accuracy")

Asked = tuple[Rule, str, str, Callable[[Moment, str], Verdict | None]]
"""(rule, its key among the episodes, metric, its `judge`): how a rule is asked about one metric (or, with an
empty one, about a line). A bare tuple, which is taken apart in half the time, many times a record."""


class Desk:
    """The rules about one metric, and which of them a value of it concerns.

    Rules keep what they promised: they are not asked about calm values (`Rule.calm`), nor within a block
    (`Rule.every`). Asking them all the same would change nothing but the time it takes.
    """

    __slots__ = ("_block", "_high", "_keys", "_low", "_single", "asked", "calm", "usual")

    def __init__(self, asked: list[Asked], settings: Sequence[Settings]) -> None:
        """`settings`: all that may be in force, one for each phase."""
        self.asked = asked
        self.calm = False
        """Was the last value calm?"""
        self._single = [a for a in asked if a[0].every == 1]
        promised = {key: found for rule, key, *_ in asked if (found := _promised(rule, settings))}
        self.usual = [a for a in self._single if a[1] not in promised]
        """Those to be asked about a calm value after another."""
        self._keys = promised.keys()
        ranges = [ANY, *promised.values()]
        self._low, self._high = max(low for low, _ in ranges), min(high for _, high in ranges)
        self._block = math.gcd(*(rule.every for rule, *_ in asked if rule.every > 1))
        """Blocks can only end at multiples of this; 0 if nobody judges any."""

    def whom(self, value: float, base: Baseline | None, episodes: Collection[str]) -> Sequence[Asked]:
        """Those to be asked about the next value, in order."""
        before = self.calm
        calm = self.calm = self._low < value < self._high and (base is None or base.is_calm(value))
        if self._block and base is not None and not (base.arrived + 1) % self._block and value - value == 0:
            return [a for a in self.asked if not (base.arrived + 1) % a[0].every]
        if calm and before and (not episodes or self._keys.isdisjoint(episodes)):
            return self.usual
        return self._single


def _promised(rule: Rule, settings: Iterable[Settings]) -> tuple[float, float] | None:
    """The range of calm values that a rule need not be asked about whatever phase the run is in."""
    try:
        ranges = [rule.calm(s) for s in settings]
        known = [r for r in ranges if r is not None]
        return (max(low for low, _ in known), min(high for _, high in known)) if len(known) == len(ranges) else None
    except Exception:  # a plug-in that gives no sensible answer is asked about everything
        return None


class Plan(NamedTuple):
    """What is to be done with a row of certain metrics: at which desks to ask, in order, and which baselines learn."""

    desks: list[tuple[str, Desk]]
    learn: list[tuple[str, Desk]]
    accuracies: list[str]
    evaluation: bool
    """May it report an evaluation?"""
    usual: list[Sequence[Asked]]
    """Those whom every desk would name if all is calm, and in one list with those who are asked about every row."""
    together: list[Asked]


class Plans:
    """The plans made lately, by the names of a row's values."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], Plan] = {}
        self.of = self._made.get

    def make(self, names: tuple[str, ...], desks: Mapping[str, Desk], learners: Iterable[str], always: Iterable[Asked]) -> Plan:
        """The plan for a row of `names`; `always`: those who are asked about every row, after all others."""
        found = [(metric, desk) for metric, desk in desks.items() if metric in names]
        usual: list[Sequence[Asked]] = [desk.usual for _, desk in found]
        plan = Plan(
            found,
            [(metric, desks[metric]) for metric in learners if metric in names],
            [metric for metric in ACCURACIES if metric in names],
            "eval_loss" in names or "eval_accuracy" in names,
            usual,
            [*chain.from_iterable(usual), *always],
        )
        if len(self._made) >= MOST:
            self._made.clear()
        self._made[names] = plan
        return plan
