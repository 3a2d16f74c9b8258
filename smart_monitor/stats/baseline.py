"""The baseline: level and robust noise of one metric in one attempt, and the noise guard.

It alone decides which values are admitted. A value that stands out on the bad side (or that a rule
has flagged) is set aside; so are those after it that are still half as far out, and non-finite ones.
If at most two values in a row were set aside and the metric then came back, they were outliers of this
run and raise its own bar; a longer excursion does not, or the second of five real spikes would be
missed. After `NEW_LEVEL` values in a row the new level is believed.

Level: median of the last 21 admitted values. Residual: distance from that level, relative to it
(a run whose loss falls by decades has one noise, not a hundred). Noise: the largest of the upper
root mean square over the last 200 residuals (it tames one-sided heavy tails, where a robust scale
alone cries wolf), their interquartile range / 1.349 (sigma of a normal distribution), and 1 %. Where the
level is on the move, the changes from value to value give a second bar: 16 times their typical size.
They also say how far neighbours differ by chance, which neither a tail nor a trend widens: what stands
out must be apart by that as well. A loss that is half above the level and many step noises for three
values in a row stands out however wide its tail has been. All of it is relative, so that loss x 1024 changes no verdict.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import Any

from smart_monitor.stats import strictness
from smart_monitor.stats.strictness import FLOOR, LASTING_RISE, STEEP, STEPS_GUARD, STEPS_LEAST
from smart_monitor.stats.window import PARTS, MedianWindow, QuartileWindow, parts

LEVEL_WINDOW = 21
NOISE_WINDOW = 200
MATURE = 20
"""Admitted values from which the noise is trusted; below it the largest step change stands in."""
NEW_LEVEL = 15
NEW_LEVEL_MEMORY = 50
YOUNG_FACTOR = 4.0
STEPS_WINDOW = 100
CALM = 4.0
"""Noises below which a value is calm, if its guard does not ask for less."""
SEEN = 20
"""Values that a rule may look back on, however short the window."""
GUARD = 7.0
"""Noises from which a value stands out: as strict as the strictest rule in use (z > 7 over 128)."""

_LISTS = ("short", "seen", "changes", "held")
_NUMBERS = ("admitted", "arrived", "young", "settled", "positive", "squares", "last", "beginning", "inherited")
"""What a state keeps as it is, beside the windows; NaN as null."""


class Baseline:
    """Level and noise of one metric; `bad` is +1 where rising is trouble, -1 where falling is.

    `absolute` metrics (accuracy in points of 0-100) measure residuals in points / 100 and not
    relative to their level. A value stands out from `times` noises on, if it is `apart` step noises from
    the level as well; with `guard` False everything stands out, which gives the literal rules.
    """

    __slots__ = (
        "_edge", "_noise", "absolute", "admitted", "apart", "arrived", "bad", "beginning", "changes", "guard", "held",
        "inherited", "last", "level", "mature", "mean", "negative", "positive", "recent", "residuals", "seen", "settled",
        "short", "squares", "stepped", "steps", "times", "unit", "window", "young",
    )  # fmt: skip

    def __init__(
        self, *, bad: int = 1, absolute: bool = False, times: float = GUARD, apart: float = 0.0, guard: bool = True,
        window: int = 10,
    ) -> None:  # fmt: skip
        self.bad = bad
        self.times = times
        self.apart = apart
        self.absolute = absolute
        self.guard = guard
        self.recent = MedianWindow(LEVEL_WINDOW)
        self.window = window
        self.short: deque[float] = deque(maxlen=max(window // 2, 3))
        self.seen: deque[float] = deque(maxlen=max(window, SEEN))
        """The last finite values in order of arrival, admitted or not."""
        self.arrived = 0
        """Finite values so far, admitted or not."""
        self.young = 0
        """Those of them that came before the noise could be trusted."""
        self.residuals = QuartileWindow(NOISE_WINDOW)
        """Distances from the level on the bad side, relative to it."""
        self.steps = QuartileWindow(STEPS_WINDOW)
        """Changes from one admitted value to the next, relative to the level."""
        self.stepped = bad > 0 or absolute
        """Are the steps kept? Those of rewards and speeds nobody asks for."""
        self.squares = 0
        self.held: list[float] = []
        self.admitted = 0
        self.mature = False
        """Are there values enough for its noise to be trusted?"""
        self.positive = NOISE_WINDOW
        """Admitted values since the last one <= 0, at most NOISE_WINDOW."""
        self.negative = False
        """Was a value <= 0 admitted lately? Then ratios mean nothing, and noises count instead.

        Not for ever: one 0.0 in a run of ordinary losses must not switch the ratio off for good.
        """
        self.settled = NEW_LEVEL_MEMORY
        """Admitted values since a new level was believed, at most NEW_LEVEL_MEMORY."""
        self.changes: deque[float] = deque(maxlen=strictness.YOUNG_WINDOW)
        self.last = math.nan
        self.mean = math.nan
        """Mean of the last half window of admitted values; NaN while there is none."""
        self.level = math.nan
        self.unit = math.nan
        self._noise: float | None = None
        self._edge: float | None = None
        """Both are worked out when somebody asks: in a calm run nobody does."""
        self.inherited = False
        self.beginning = math.nan
        """The worst median of the first BEGINNING values, of this attempt and those before it."""

    # -- what rules ask ---------------------------------------------------------------------------

    @property
    def step_noise(self) -> float:
        """The typical change from one value to the next, relative: interquartile range / 1.349, or 1 %.

        Of late changes alone it takes a share, where that is more: neighbours that begin to differ are seen at once.
        Unlike `noise` it is raised neither by single outliers nor by a steady fall: it says how far chance
        alone reaches from step to step.
        """
        if not self.residuals:
            return math.nan
        quartiles = max(self.steps.quartiles, strictness.LATELY_SHARE * self.steps.lately(strictness.LATELY))
        return max(strictness.QUARTILES_TO_SIGMA * quartiles / PARTS, FLOOR)

    @property
    def noise(self) -> float:
        """The run's own noise, relative to `unit`; at least 1 %, NaN while nothing is known."""
        noise = self._noise
        if noise is None:
            residuals = self.residuals
            if not residuals:
                return math.nan
            noise = max(FLOOR, self._upper(), strictness.QUARTILES_TO_SIGMA * residuals.quartiles / PARTS)
            self._noise = noise
        return noise

    @property
    def edge(self) -> float:
        """How far on the bad side of the level a value stands out; NaN while nothing is known."""
        edge = self._edge
        if edge is None:
            unit, times = self.unit, self.times
            if self.negative:
                times *= 2  # where losses take both signs, twice as far
            scale = unit * self.noise
            # The floor is a convention, whatever was seen.
            tail = self._tail_unseen() if self.noise > FLOOR else 1.0
            edge = times * scale * tail if scale > 0 else math.nan
            if self.bad > 0 and unit == self.level and self.residuals:
                usual = self.step_noise
                # A level that lags behind a falling loss hides a jump that the last steps make plain.
                plain = max(self.mean * (1 + STEPS_GUARD * usual), self.recent.highest * (1 + usual) ** strictness.ABOVE_HIGHEST)
                edge = min(edge, max(STEPS_LEAST * scale, plain - self.level))
            elif self.absolute and self.residuals:
                edge = max(edge, self.apart / math.sqrt(strictness.IN_A_ROW) * unit * self.step_noise)
            self._edge = edge
        return edge

    def _tail_unseen(self) -> float:
        """By how much more a noise known from few residuals must be exceeded."""
        known = len(self.residuals)
        return (NOISE_WINDOW / known) ** strictness.TAIL if 0 < known < NOISE_WINDOW and not self.absolute else 1.0

    @property
    def largest_change(self) -> float:
        """The largest step of late while there were fewer than MATURE values; 0.0 before the second."""
        return max(self.changes, default=0.0)

    def score(self, value: float) -> float:
        """How many noises `value` lies on the bad side of the level; NaN while nothing is known."""
        scale = self.unit * self.noise
        if not scale > 0:
            return math.nan
        return (value - self.level) * self.bad / scale

    def lost(self, value: float) -> bool:
        """Is all gone that was learned? `value` and the one set aside before it are back where training began."""
        if not self.held or not min((v - self.beginning) * self.bad for v in (value, self.held[-1])) >= 0:
            return False
        if self.absolute:
            return (self.beginning - self.level) * self.bad >= strictness.LEARNED_POINTS
        return self.bad > 0 and 0 < self.level <= strictness.LEARNED * self.beginning

    def stands_out(self, value: float) -> bool:
        """The noise guard: does `value` stand out on the bad side of what the run's noise explains?

        Below MATURE admitted values it asks for four times the largest step change so far.
        """
        if not self.guard:
            return True
        if self.admitted == 0:
            return False
        if self.admitted < MATURE and not self._dwarfs(value):
            return False
        beyond = self._beyond(value) or (len(self.held) >= strictness.LASTING - 1 and self._lasting(value))
        return not self.mature or (beyond and self._apart(value))

    def _lasting(self, value: float) -> bool:
        """Is a loss so high that a few such values in a row are no chance, whatever the outliers before them?"""
        if not self.apart or self.bad < 0 or self.negative or not self.residuals:
            return False
        return value >= self.level * (1 + LASTING_RISE) and value >= self.level * (1 + strictness.LASTING_STEPS * self.step_noise)

    def _dwarfs(self, value: float) -> bool:
        """The guard while there are few values: the move must dwarf every step of late.

        It is counted from the level or the last value, whichever is further away. Where chance multiplies it must
        also be twice the largest step on a logarithmic scale.
        """
        lower = min(self.last * self.bad, self.level * self.bad)
        rise = value * self.bad - lower
        if (
            not rise > 0
            or rise < YOUNG_FACTOR * max(1.0, strictness.YOUNG_STEPS / (len(self.changes) or 1)) * self.largest_change
        ):
            return False
        if self.apart and lower > 0 and not self.negative:
            widest = max((max(a / b, b / a) for a, b in pairwise(self.recent.values)), default=1.0)
            return value >= lower * widest * widest
        return True

    def _apart(self, value: float) -> bool:
        """Is a value beyond the edge also apart from what neighbours differ by, be it only several times in a row?

        Losses are positive and their noise multiplies: where neighbours differ by half, a batch of ten times the
        level is nothing, which no count of noises added up can say.
        """
        if not self.apart or self.negative or not self.residuals:
            return True
        noises = self.apart / math.sqrt(min(len(self.held) + 1, strictness.IN_A_ROW))
        if self.absolute:
            return (value - self.level) * self.bad >= noises * self.unit * self.step_noise
        return bool(value >= self.level * (1 + self.step_noise) ** (noises * self._tail_unseen()))

    def _beyond(self, value: float) -> bool:
        """Does `value` reach the edge? What can be told without sorting is asked first, for the edge is never below it."""
        rise = (value - self.level) * self.bad
        if rise < 0:
            return False
        times, unit = self.times, self.unit
        if self.bad > 0 and rise >= self.mean * STEEP - self.level and times > STEPS_LEAST:
            times = STEPS_LEAST
        if rise < times * (unit * FLOOR) or rise < times * (unit * self._upper()):
            return False
        return rise >= self.edge

    def lately(self, count: int) -> list[float]:
        """The last `count` finite values, admitted or not; at most SEEN or the window, whichever is larger."""
        return list(self.seen)[-count:]

    # -- what the engine asks and tells it -----------------------------------------------------------------

    def is_calm(self, value: float) -> bool:
        """Is `value` surely nearer than CALM noises to the level and nearer than the edge, or on its good side?

        Of most values that can be told without sorting, for the noise is at least its floor and its mean square.
        False says nothing. See `Rule.calm`.
        """
        if not self.mature or not self.guard:
            return False
        unit, rise = self.unit, (value - self.level) * self.bad
        if rise <= 0:
            return unit > 0
        times = min(CALM, self.times)
        if self.bad > 0 and rise >= self.mean * STEEP - self.level and times > STEPS_LEAST:
            times = STEPS_LEAST
        return rise < times * (unit * FLOOR) or (rise < LASTING_RISE * unit and rise < times * (unit * self._upper()))

    def observe(self, value: float, *, flagged: bool, calm: bool = False) -> None:
        """Take in a judged value: admit it, or set it aside. Non-finite values change nothing.

        `calm`: `is_calm` said so already.
        """
        if value - value != 0:
            return
        self.seen.append(value)
        self.arrived += 1
        if not self.mature:
            self.young += 1
        if flagged or ((self.held or not calm) and self.mature and self.guard and self._is_out(value)):
            self.held.append(value)
            if len(self.held) >= NEW_LEVEL:
                self._believe_new_level()
            return
        if self.held:
            if len(self.held) <= strictness.TRANSIENT:
                for outlier in self.held:
                    self._weigh(outlier)
                    self._note_change(outlier)
            self.held.clear()
        unit = self.unit
        if unit > 0:  # NaN before the first
            self._weigh(value)
            if self.stepped and value != self.last:  # a repeated value says nothing of how far chance reaches
                self.steps.push(parts((value - self.last) / unit))
        if self.admitted < MATURE:
            self._note_change(value)
        self._take(value)

    def _is_out(self, value: float) -> bool:
        """Must it be set aside? After others, one that is still half way out has not come back: it wavers about the edge."""
        if self.held and (value - self.level) * self.bad >= strictness.BACK * self.edge:
            return True
        return self._beyond(value) or self._lasting(value)

    def _note_change(self, value: float) -> None:
        """Let the step to `value` count in the noise of a young run; there is none to the first."""
        change = abs(value - self.last)
        if self.admitted < MATURE and change < math.inf:
            self.changes.append(change)

    def _take(self, value: float) -> None:
        self.admitted += 1
        if not self.mature:
            self.mature = self._is_mature()
        self.last = value
        if self.settled < NEW_LEVEL_MEMORY:
            self.settled += 1
        if value <= 0:
            self.positive = 0
        elif self.positive < NOISE_WINDOW:
            self.positive += 1
        self.short.append(value)
        self.recent.push(value)
        self._settle()
        if self.admitted == strictness.BEGINNING and not (self.level - self.beginning) * self.bad <= 0:
            self.beginning = self.level

    def _is_mature(self) -> bool:
        return self.admitted >= MATURE or (self.inherited and self.admitted >= 3)

    def _believe_new_level(self) -> None:
        held, self.held = self.held, []
        self.settled = 0
        self.recent = MedianWindow(LEVEL_WINDOW)
        self.short.clear()
        for value in held:
            self._take(value)

    def _weigh(self, value: float) -> None:
        """Let the distance of `value` from the level count in the noise."""
        if not self.unit > 0:
            return
        residual = parts((value - self.level) * self.bad / self.unit)
        left = self.residuals.push(residual)
        if left > 0:
            self.squares -= int(left * left)
        if residual > 0:
            self.squares += residual * residual

    def _upper(self) -> float:
        """Root mean square of the residuals on the bad side."""
        return math.sqrt(2 * self.squares / (len(self.residuals) or 1)) / PARTS

    def _settle(self) -> None:
        short = self.short
        mean = sum(short) / len(short)
        self.mean = mean if mean - mean == 0 else sum(v / len(short) for v in short)
        self.level = self.unit = self.recent.median
        self._noise = self._edge = None
        self.negative = self.positive < NOISE_WINDOW and not self.absolute
        if self.absolute:
            self.unit = 100.0
        elif self.negative:
            self.unit = sum(abs(v) / len(self.recent) for v in self.recent.values)

    # -- attempts and state -----------------------------------------------------------------------

    def successor(self) -> Baseline:
        """The baseline of the next attempt: the level starts afresh, the noise carries over."""
        heir = Baseline(**{name: getattr(self, name) for name in ("bad", "absolute", "times", "apart", "guard", "window")})
        heir.beginning = self.beginning
        if self.mature:
            heir.residuals = QuartileWindow(NOISE_WINDOW, self.residuals.values)
            heir.steps = QuartileWindow(STEPS_WINDOW, self.steps.values)
            heir.squares = self.squares
            heir.inherited = True
        return heir

    def state(self) -> dict[str, Any]:
        windows = {"recent": list(self.recent.values), "residuals": self.residuals.values, "steps": self.steps.values}
        numbers = {name: None if (number := getattr(self, name)) != number else number for name in _NUMBERS}
        return windows | {name: list(getattr(self, name)) for name in _LISTS} | numbers

    def restore(self, state: dict[str, Any]) -> None:
        self.recent = MedianWindow(LEVEL_WINDOW, state["recent"])
        self.residuals = QuartileWindow(NOISE_WINDOW, state["residuals"])
        self.steps = QuartileWindow(STEPS_WINDOW, state["steps"])
        for name in _LISTS:
            getattr(self, name).extend(state[name])
        for name in _NUMBERS:
            setattr(self, name, math.nan if state[name] is None else state[name])
        self.mature = self._is_mature()
        if self.recent:
            self._settle()
