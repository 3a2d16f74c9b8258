from typing import ClassVar

from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict, percent
from smart_monitor.rules._strategies import Crossing, asked_for, crossing
from smart_monitor.stats.attempts import RETRACED
from smart_monitor.stats.baseline import Baseline

NEVER_WAITS = 10.0
SOON = 3
"""Records in which no training that begins learns half of what the one before it had."""


class LossSpike(Rule):
    """A training loss far above what it has just been.

    What it watches: `loss`, at every record.

    Why it matters: a spike is the first sign of a learning rate too high, bad batches, a numerical
    fault or corrupted state; the checkpoint from before it is the one to go back to.

    Formula: loss > (1 + `loss_spike_threshold`) x mean of the last `loss_window`/2 admitted values
    (0.3 and 5 by default), and, with the noise guard, at least 7 noises above the median of the last
    21 (14 where losses take both signs, and then the ratio is not asked) and 5.5 step noises, compounded,
    above it: median x (1 + step noise)^5.5, less for each of several in a row; whatever the run's outliers have
    been, the third in a row that is half above the median, and 14 step noises. Percent is against the mean.
    Other strategies, off by default: `spike_strategies = ["ratio", "mad", "step"]` also takes a loss above
    the median + `mad_factor` x 1.4826 x MAD of the last `mad_window` values (2 and 50), or 50 %
    (`step_change`) above the one before; `fixed_loss_threshold` a loss above that. The guard decides on all.

    Critical as soon as a second value in a row is back at the median of the run's first 5, when the level had
    fallen to half of that: what was learned is lost. Where rows count nothing and the loss leaps back to the run's first,
    `restart` tells it; if more than half of the leap is gone within 3 records it was a spike, and that is told then.

    Judges from: 3 earlier values; ten times the mean of two never waits.

    What to do: look at the learning rate and the data of the step; if the loss does not return within
    a few records, roll back to the last good checkpoint and lower the learning rate or skip the data.
    """

    severity = "warning"
    snapshot = True
    family = "loss"
    metrics = ("loss",)
    sets_aside = True
    earlier: ClassVar[int] = 1
    """Admitted values without which it says nothing; a fixed limit needs none."""

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        # A deviation is reckoned from values that only asking collects.
        return None if asked_for(settings, settings.fixed_loss_threshold) else ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        loss, base, settings = moment.values[metric], moment.baselines[metric], moment.settings
        if RETRACED in moment.restarted:
            self.memory = {"leapt": [loss, moment.before[metric], moment.record.index, moment.step]}
        elif "leapt" in self.memory and base.arrived <= SOON:
            return self._no_restart(moment, metric)
        if base.admitted < self.earlier or loss - loss != 0:  # what is not finite is the business of `nan`
            return None
        found = _above_mean(loss, base, settings)
        if asked_for(settings, settings.fixed_loss_threshold):
            other = crossing(self, loss, base, settings, settings.fixed_loss_threshold)
            found = (found if "ratio" in settings.spike_strategies else None) or other
        if found is None or not base.stands_out(loss):
            return None
        score = base.score(loss)
        if found.baseline > 0 and found.strategy != "noise":
            pct = percent((loss / found.baseline - 1) * 100)
            number, above = f"{pct}pct", f"{pct} % {found.words} ({found.baseline:.4g})"
        elif base.admitted:
            number, above = f"z{percent(score)}", f"far {found.words} ({found.baseline:.4g})"
        else:
            number, above = "", f"above {found.limit:.4g}"
        lost = base.lost(loss)
        if lost:
            above += f", back where training began ({base.beginning:.4g})"
        sure = f"{score:.1f} times the run's own noise" if base.mature else "a young run: its noise is not known yet"
        return Verdict(
            message=f"loss {loss:.4g} at {moment.where} is {above}; {sure}",
            advice="Check the learning rate and this step's data; if the loss stays up, resume from a checkpoint before it.",
            metric=metric, value=loss, baseline=found.baseline, threshold=found.limit, score=score, number=number,
            strategy=found.strategy, severity="critical" if lost else None,
        )  # fmt: skip

    def _no_restart(self, moment: Moment, metric: str) -> Verdict | None:
        """What was told as a restart, for the loss stood where training had begun, was a spike if it is back at once."""
        loss, (leapt, level, record, step) = moment.values[metric], self.memory["leapt"]
        if not max(loss, 0.0) * loss <= leapt * level:  # more than half way back, where chance multiplies
            return None
        del self.memory["leapt"]
        pct = percent((leapt / level - 1) * 100)
        return Verdict(
            message=f"loss {leapt:.4g} at step {step} was {pct} % above its level ({level:.4g}), and no restart: "
            f"it is {loss:.4g} again at {moment.where}",
            advice="Check the learning rate and the data of that step.",
            metric=metric, value=leapt, baseline=level, number=f"{pct}pct", strategy="ratio",
            onset_record=record, onset_step=step,
        )  # fmt: skip


def _above_mean(loss: float, base: Baseline, settings: Settings) -> Crossing | None:
    """The ratio to the mean; where losses take both signs and ratios mean nothing, the distance in noises."""
    mean = base.mean
    if mean > 0 and not base.negative:
        limit = mean * (1 + settings.loss_spike_threshold)
        if not loss > limit or (base.admitted < 3 and not (base.admitted == 2 and loss >= NEVER_WAITS * mean)):
            return None
        return Crossing("ratio", limit, mean, f"above the mean of its last {len(base.short)} values")
    if base.admitted < 3 or not base.score(loss) >= 2 * base.times:
        return None
    return Crossing("noise", base.level + 2 * base.times * base.unit * base.noise, mean, "above its level")
