"""The baseline: level and robust noise of one metric in one attempt, and the noise guard.

It alone decides which values are admitted. A value that stands out on the bad side (or that a rule
has flagged) is set aside; so are non-finite ones. If at most two values in a row were set aside and
the metric then came back, they were outliers of this run and raise its own bar; a longer excursion
does not, or the second of five real spikes would be missed. After `NEW_LEVEL` values in a row the
new level is believed.

Level: median of the last 21 admitted values. Residual: distance from that level, relative to it
(a run whose loss falls by decades has one noise, not a hundred). Noise: the largest of the upper
root mean square over the last 200 residuals (it tames one-sided heavy tails, where the median
absolute deviation alone cries wolf), 1.4826 x the median absolute residual (Hampel 1974), and 1 %.
All of it is relative, so that loss x 1024 changes no verdict.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from smart_monitor.stats.window import MedianWindow

LEVEL_WINDOW = 21
NOISE_WINDOW = 200
MATURE = 20
"""Admitted values from which the noise is trusted; below it the largest step change stands in."""
NEW_LEVEL = 15
TRANSIENT = 2
"""Values in a row that may be set aside and still count as outliers of the run, not as an event."""
YOUNG_FACTOR = 4.0
FLOOR = 0.01
CAP = 1.0
"""No single residual weighs more than 100 % of the level in the noise."""
MAD_TO_SIGMA = 1.4826
SHAPES: dict[str, dict[str, Any]] = {
    "accuracy": {"bad": -1, "absolute": True, "times": 3.0},
    "eval_accuracy": {"bad": -1, "absolute": True, "times": 3.0},
}
"""How the metrics differ whose trouble is not "rising, relative to the level"."""
GUARD = 7.0
"""Noises from which a value stands out: as strict as the strictest rule in use (z > 7 over 128)."""


class Baseline:
    """Level and noise of one metric; `bad` is +1 where rising is trouble, -1 where falling is.

    `absolute` metrics (accuracy in points of 0-100) measure residuals in points / 100 and not
    relative to their level. A value stands out from `times` noises on; with `guard` False everything
    stands out, which gives the literal rules.
    """

    __slots__ = (
        "absolute", "admitted", "bad", "edge", "guard", "held", "inherited", "largest_change", "last", "level", "mature", "mean",
        "noise", "noises", "positive", "recent", "residuals", "seen", "short", "squares", "times", "unit", "uppers",
    )  # fmt: skip

    def __init__(
        self, *, bad: int = 1, absolute: bool = False, times: float = GUARD, guard: bool = True, window: int = 10
    ) -> None:
        self.bad = bad
        self.times = times
        self.absolute = absolute
        self.guard = guard
        self.recent = MedianWindow(LEVEL_WINDOW)
        self.short: deque[float] = deque(maxlen=max(window // 2, 3))
        self.seen: deque[float] = deque(maxlen=max(window, 2))
        """The last finite values in order of arrival, admitted or not."""
        self.noises: deque[float] = deque(maxlen=max(window, 2))
        """The noise as it was before each value in `seen`: a slow rise must not hide in the noise it makes itself."""
        self.residuals: deque[float] = deque()
        self.uppers = MedianWindow(NOISE_WINDOW)
        self.squares = 0.0
        self.held: list[float] = []
        self.admitted = 0
        self.mature = False
        """Are there values enough for its noise to be trusted?"""
        self.positive = NOISE_WINDOW
        """Admitted values since the last one <= 0, at most NOISE_WINDOW."""
        self.largest_change = 0.0
        self.last = math.nan
        self.mean = math.nan
        """Mean of the last half window of admitted values; NaN while there is none."""
        self.level = math.nan
        self.unit = math.nan
        self.noise = math.nan
        self.edge = math.nan
        """How far on the bad side of the level a value stands out; NaN while nothing is known."""
        self.inherited = False

    # -- what rules ask ---------------------------------------------------------------------------

    @property
    def negative(self) -> bool:
        """Was a value <= 0 admitted lately? Then ratios mean nothing, and noises count instead.

        Not for ever: one 0.0 in a run of ordinary losses must not switch the ratio off for good.
        """
        return self.positive < NOISE_WINDOW and not self.absolute

    @property
    def spread(self) -> float:
        """The typical distance from the level, relative: 1.4826 x the median absolute residual, or 1 %.

        Unlike `noise` it is not raised by single outliers: it says how far chance alone reaches.
        """
        return max(MAD_TO_SIGMA * self.uppers.median, FLOOR) if self.uppers else math.nan

    def score(self, value: float) -> float:
        """How many noises `value` lies on the bad side of the level; NaN while nothing is known."""
        scale = self.unit * self.noise
        if not scale > 0:
            return math.nan
        return (value - self.level) * self.bad / scale

    def stands_out(self, value: float) -> bool:
        """The noise guard: does `value` stand out on the bad side of what the run's noise explains?

        Below MATURE admitted values it asks for four times the largest step change so far.
        """
        if not self.guard:
            return True
        if self.admitted == 0:
            return False
        if self.mature:
            return (value - self.level) * self.bad >= self.edge
        rise = (value - self.last) * self.bad
        return rise > 0 and rise >= YOUNG_FACTOR * self.largest_change

    # -- what the engine tells it -----------------------------------------------------------------

    def observe(self, value: float, *, flagged: bool) -> None:
        """Take in a judged value: admit it, or set it aside. Non-finite values change nothing."""
        if value - value != 0:
            return
        self.seen.append(value)
        self.noises.append(self.noise)
        if flagged or (self.mature and self.guard and (value - self.level) * self.bad >= self.edge):
            self.held.append(value)
            if len(self.held) >= NEW_LEVEL:
                self._believe_new_level()
            return
        if self.held:
            if len(self.held) <= TRANSIENT and self.mature:
                for outlier in self.held:
                    self._weigh(outlier)
            self.held.clear()
        if self.admitted:
            if self.admitted < MATURE and self.largest_change < abs(value - self.last) < math.inf:
                self.largest_change = abs(value - self.last)
            self._weigh(value)
        self._take(value)

    def _take(self, value: float) -> None:
        self.admitted += 1
        if not self.mature:
            self.mature = self.admitted >= MATURE or (self.inherited and self.admitted >= 3)
        self.last = value
        if value <= 0:
            self.positive = 0
        elif self.positive < NOISE_WINDOW:
            self.positive += 1
        self.short.append(value)
        self.recent.push(value)
        self._settle()

    def _believe_new_level(self) -> None:
        held, self.held = self.held, []
        self.recent = MedianWindow(LEVEL_WINDOW)
        self.short.clear()
        for value in held:
            self._take(value)

    def _weigh(self, value: float) -> None:
        """Let the distance of `value` from the level count in the noise."""
        if not self.unit > 0:
            return
        residual = (value - self.level) * self.bad / self.unit
        if not -CAP < residual < CAP:
            residual = CAP if residual > 0 else -CAP
        residuals = self.residuals
        if len(residuals) == NOISE_WINDOW:
            old = residuals.popleft()
            if old > 0:
                self.squares = max(0.0, self.squares - old * old)
        residuals.append(residual)
        if residual > 0:
            self.squares += residual * residual
            self.uppers.push(residual)
        else:
            self.uppers.push(-residual)

    def _settle(self) -> None:
        short, level = self.short, self.recent.median
        mean = sum(short) / len(short)
        self.level = level
        self.mean = mean if mean - mean == 0 else sum(v / len(short) for v in short)
        times = self.times
        if self.absolute:
            unit = 100.0
        elif self.positive < NOISE_WINDOW:
            unit = sum(abs(v) / len(self.recent) for v in self.recent.values)
            times *= 2  # where losses take both signs, twice as far
        else:
            unit = level
        self.unit = unit
        if self.residuals:
            noise = math.sqrt(2 * self.squares / len(self.residuals))
            spread = MAD_TO_SIGMA * self.uppers.median
            if spread > noise:
                noise = spread
            self.noise = max(FLOOR, noise)
        scale = unit * self.noise
        self.edge = times * scale if scale > 0 else math.nan

    # -- attempts and state -----------------------------------------------------------------------

    def successor(self) -> Baseline:
        """The baseline of the next attempt: the level starts afresh, the noise carries over."""
        heir = Baseline(bad=self.bad, absolute=self.absolute, times=self.times, guard=self.guard, window=self.seen.maxlen or 0)
        if self.mature:
            heir.residuals = deque(self.residuals)
            heir.uppers = MedianWindow(NOISE_WINDOW, self.uppers.values)
            heir.squares = self.squares
            heir.inherited = True
        return heir

    def state(self) -> dict[str, Any]:
        return {
            "recent": list(self.recent.values), "short": list(self.short), "seen": list(self.seen), "noises": list(self.noises),
            "residuals": list(self.residuals), "squares": self.squares, "held": list(self.held),
            "admitted": self.admitted, "positive": self.positive, "largest_change": self.largest_change,
            "last": None if math.isnan(self.last) else self.last, "inherited": self.inherited,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.recent = MedianWindow(LEVEL_WINDOW, state["recent"])
        self.short.extend(state["short"])
        self.seen.extend(state["seen"])
        self.noises.extend(state["noises"])
        self.residuals = deque(state["residuals"])
        self.uppers = MedianWindow(NOISE_WINDOW, [abs(r) for r in self.residuals])
        self.squares = state["squares"]
        self.held = list(state["held"])
        self.admitted = state["admitted"]
        self.positive = state["positive"]
        self.largest_change = state["largest_change"]
        self.last = math.nan if state["last"] is None else state["last"]
        self.inherited = state["inherited"]
        self.mature = self.admitted >= MATURE or (self.inherited and self.admitted >= 3)
        if self.recent:
            self._settle()
