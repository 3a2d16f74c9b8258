from smart_monitor.rules import Moment, Rule, Verdict, percent

NEVER_WAITS = 10.0


class LossSpike(Rule):
    """A training loss far above what it has just been.

    What it watches: `loss`, at every record.

    Why it matters: a spike is the first sign of a learning rate too high, bad batches, a numerical
    fault or corrupted state; the checkpoint from before it is the one to go back to.

    Formula: loss > (1 + `loss_spike_threshold`) x mean of the last `loss_window`/2 admitted values
    (0.3 and 5 by default), and, with the noise guard, at least 7 noises above the median of the last
    21 (14 where losses take both signs, and then the ratio is not asked). Percent is against that mean.
    The guard's noise: upper root mean square and median absolute deviation of the relative residuals.

    Judges from: 3 earlier values; ten times the level never waits.

    What to do: look at the learning rate and the data of the step; if the loss does not return within
    a few records, roll back to the last good checkpoint and lower the learning rate or skip the data.
    """

    severity = "warning"
    snapshot = True
    family = "loss"
    metrics = ("loss",)
    sets_aside = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        loss = moment.values[metric]
        base = moment.baselines[metric]
        if not base.admitted or loss - loss != 0:  # what is not finite is the business of `nan`
            return None
        mean, threshold = base.mean, moment.settings.loss_spike_threshold
        limit = mean * (1 + threshold)
        if mean > 0 and not base.negative:
            if not loss > limit:
                return None
            if base.admitted < 3 and not (base.admitted == 2 and loss >= NEVER_WAITS * mean):
                return None
            if not base.stands_out(loss):
                return None
            number, strategy = f"{percent((loss / mean - 1) * 100)}pct", "ratio"
            above = f"{percent((loss / mean - 1) * 100)} % above the mean of its last {len(base.short)} values ({mean:.4g})"
        else:
            score = base.score(loss)
            if base.admitted < 3 or not score >= 2 * base.times or not base.stands_out(loss):
                return None
            number, strategy, limit = f"z{percent(score)}", "noise", base.level + 2 * base.times * base.unit * base.noise
            above = f"far above its level {base.level:.4g}"
        score = base.score(loss)
        sure = f"{score:.1f} times the run's own noise" if base.mature else "a young run: its noise is not known yet"
        return Verdict(
            message=f"loss {loss:.4g} at {moment.where} is {above}; {sure}",
            advice="Check the learning rate and this step's data; if the loss stays up, resume from a checkpoint before it.",
            metric=metric, value=loss, baseline=mean, threshold=limit, score=score, number=number, strategy=strategy,
        )  # fmt: skip
