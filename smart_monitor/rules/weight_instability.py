from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict

RISE = 0.05


class WeightInstability(Rule):
    """Weights that jump.

    What it watches: `weight_norm`, the L2 norm of all weights, where the trainer gives it.

    Why it matters: weights move slowly by nature; a jump is a bad update, a bit flip or a wrong checkpoint.

    Formula: the norm rises above what the run's own noise explains (the baseline's guard) and by more than
    5 % of its level.

    Judges from: 20 values.

    What to do: compare with the checkpoint before; resume from it.
    """

    severity = "warning"
    family = "gradient"
    metrics = ("weight_norm",)
    sets_aside = True

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        norm, base = moment.values[metric], moment.baselines[metric]
        limit = (1 + RISE) * base.level
        if not base.mature or not norm > limit or norm - norm != 0 or not base.stands_out(norm):
            return None
        return Verdict(
            message=f"weight norm {norm:.4g} at {moment.where} jumped from its level {base.level:.4g}",
            advice="Compare with the checkpoint before, and resume from it.",
            metric=metric, value=norm, baseline=base.level, threshold=limit, score=base.score(norm), number=f"{norm:.3g}",
            strategy="noise",
        )  # fmt: skip
