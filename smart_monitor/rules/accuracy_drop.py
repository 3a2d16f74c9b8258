from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict, percent


class AccuracyDrop(Rule):
    """An accuracy that falls by many points at once.

    What it watches: `accuracy` and `eval_accuracy`, each against its own past, in points of 0-100
    (fractions are read as such until a value above 1.5 appears).

    Why it matters: the loss can stay calm while the model forgets what it is scored on: label shift,
    overfitting, a collapsed head, a broken evaluation.

    Formula: accuracy < mean of the last `loss_window`/2 admitted values - `accuracy_drop_threshold`
    (10 points), and, with the noise guard, at least 1 noise and 5 step noises (what neighbours differ by:
    the sampling error of small batches) below the median of the last 21; half as many where it is the
    fourth in a row.

    Critical as soon as a second value in a row is back at the median of the run's first 5, when 20 points had
    been gained over that.

    Judges from: 3 earlier values.

    What to do: compare with the best model's snapshot; if both accuracy and loss got worse, roll back.
    """

    severity = "warning"
    snapshot = True
    family = "accuracy"
    metrics = ("accuracy", "eval_accuracy")
    sets_aside = True

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        accuracy = moment.values[metric]
        base = moment.baselines[metric]
        if base.admitted < 3 or accuracy - accuracy != 0:
            return None
        mean = base.mean
        limit = mean - moment.settings.accuracy_drop_threshold
        if not accuracy < limit or not base.stands_out(accuracy):
            return None
        drop, lost = mean - accuracy, base.lost(accuracy)
        return Verdict(
            message=f"{metric} {percent(accuracy)} at {moment.where} is {percent(drop)} points below the mean of its last "
            f"{len(base.short)} values ({percent(mean)})"
            + (f", back where training began ({percent(base.beginning)})" if lost else ""),
            advice="Compare with the best model's snapshot; if the loss got worse too, resume from it.",
            metric=metric, value=accuracy, baseline=mean, threshold=limit, score=base.score(accuracy),
            number=f"{percent(drop)}pct", strategy="drop",
            severity="critical" if lost else None,
        )  # fmt: skip
