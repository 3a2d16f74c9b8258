"""Other ways to tell a spike than the ratio to the mean, for losses and gradient norms; each off unless asked for.

The noise guard decides about what they find as about everything else.
"""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from smart_monitor.config import Settings
from smart_monitor.rules import Rule
from smart_monitor.stats.baseline import LEVEL_WINDOW, Baseline

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution (Hampel, 1974)."""
MAD_LEAST = 3
"""Values from which a median and a deviation from it are worth asking."""


class Crossing(NamedTuple):
    """A limit that a value is above, and what the limit was reckoned from."""

    strategy: str
    limit: float
    baseline: float
    words: str
    """What the baseline is, as in `above the median of its last 50 values`."""


def crossing(rule: Rule, value: float, base: Baseline, settings: Settings, fixed: float) -> Crossing | None:
    """The first of the strategies in force that takes `value` for a spike; None if none does.

    fixed: above this limit, whatever the run's level; 0 = no limit (it then takes the place of `mad`).
    mad: above median + mad_factor x 1.4826 x MAD of the last mad_window admitted values.
    step: above (1 + step_change) x the last admitted value.
    """
    wanted = settings.spike_strategies
    if fixed:
        if value > fixed:
            return Crossing("fixed", fixed, base.level, "above the fixed limit, and above its level")
    elif "mad" in wanted:
        values = _remembered(rule.memory, base, settings.mad_window)
        if len(values) >= MAD_LEAST:
            middle = median(values)
            limit = middle + settings.mad_factor * MAD_TO_SIGMA * median(abs(v - middle) for v in values)
            if value > limit:
                return Crossing("mad", limit, middle, f"above the median of its last {len(values)} values")
    if "step" in wanted and base.last > 0 and value > (limit := base.last * (1 + settings.step_change)):
        return Crossing("step", limit, base.last, "above the value before it")
    return None


def asked_for(settings: Settings, fixed: float) -> bool:
    """Is any of them in force?"""
    return bool(fixed) or settings.spike_strategies != ("ratio",)


def _remembered(memory: dict[str, Any], base: Baseline, size: int) -> list[float]:
    """The last `size` admitted values: a baseline keeps fewer, and most runs ask for none of them."""
    values: list[float] = memory.get("values", [])
    fresh = min(base.admitted - memory.get("admitted", 0), LEVEL_WINDOW)
    if fresh > 0:
        values = [*values, *list(base.recent.values)[-fresh:]][-size:]
        memory["values"], memory["admitted"] = values, base.admitted
    return values
