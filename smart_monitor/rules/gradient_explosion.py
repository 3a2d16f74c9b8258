import math
from typing import ClassVar

from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict, percent
from smart_monitor.rules._layers import largest, listed
from smart_monitor.rules._strategies import Crossing, asked_for, crossing

ABSOLUTE_TIMES = 4.0
RELATIVE_TIMES = 8.0
LEAST_LEVEL = 1e-6
"""A level below is of gradients that vanished; what comes back from there did not explode."""


class GradientExplosion(Rule):
    """A gradient norm far above the run's own.

    What it watches: `grad_norm`, the total L2 norm before clipping, at every record that gives it.

    Why it matters: one exploded step can undo hours of training before the loss shows it.

    Formula: norm > 8 x its level (median of the last 21 admitted values), or > 10
    (`gradient_explosion_threshold`) and > 4 x its level; and
    it must stand out from the noise. A bare limit of 10 (the usual clipping advice, Pascanu et al. 2013)
    cries wolf in runs whose norm is always 30 and is blind in those whose norm is 0.1. Above a level below
    1e-6 only the limit of 10 is left. `spike_strategies` with "mad" or "step", and `fixed_grad_norm_threshold`, add
    to it what they add to loss_spike.

    Judges from: 3 earlier values.

    What to do: clip gradients, lower the learning rate, look at the data of the step.
    """

    severity = "warning"
    snapshot = True
    family = "loss"
    metrics = ("grad_norm",)
    sets_aside = True
    earlier: ClassVar[int] = 3
    """Admitted values from which it judges."""
    relative: ClassVar[float] = RELATIVE_TIMES
    unheard: ClassVar[float] = math.inf
    """A norm above explodes though no level is known yet."""

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        # A deviation is reckoned from values that only asking collects.
        return None if asked_for(settings, settings.fixed_grad_norm_threshold) else ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        norm, base, settings = moment.values[metric], moment.baselines[metric], moment.settings
        found: Crossing | None = None
        if asked_for(settings, settings.fixed_grad_norm_threshold) and norm - norm == 0:
            found = crossing(self, norm, base, settings, settings.fixed_grad_norm_threshold)
        level = base.level
        # What is not finite is the business of `nan`.
        if norm - norm != 0:
            return None
        if base.admitted < self.earlier:
            return self._verdict(moment, metric, Crossing("absolute", self.unheard, level, "")) if norm > self.unheard else None
        if found is None and not norm > ABSOLUTE_TIMES * level:
            return None
        high = max(settings.gradient_explosion_threshold, ABSOLUTE_TIMES * level)
        limit = min(self.relative * level, high) if level > LEAST_LEVEL else high
        if norm > limit:
            found = Crossing("relative" if limit < high else "absolute", limit, level, "")
        if found is None or not (base.stands_out(norm) or level <= 0):
            return None
        return self._verdict(moment, metric, found)

    def _verdict(self, moment: Moment, metric: str, found: Crossing) -> Verdict:
        norm, base = moment.values[metric], moment.baselines[metric]
        level, layers = base.level, largest(moment.values)
        above = (
            f"is {percent(norm / level)} times its level ({level:.4g})"
            if level > 0
            else "after norms of zero"
            if base.admitted
            else f"is above {found.limit:.4g}"
        )
        return Verdict(
            message=f"gradient norm {norm:.4g} at {moment.where} {above}{listed(layers, '; largest in ')}",
            advice="Clip gradients, lower the learning rate, and look at the data of this step.",
            metric=metric, value=norm, baseline=found.baseline, threshold=found.limit, score=base.score(norm),
            number=f"{norm:.3g}", strategy=found.strategy, evidence={"layers": layers} if layers else {},
        )  # fmt: skip
