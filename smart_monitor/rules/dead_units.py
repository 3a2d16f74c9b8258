from smart_monitor.rules import Moment, Rule, Verdict

SHARE = 0.5
RECORDS = 3


class DeadUnits(Rule):
    """Units that never fire.

    What it watches: `dead_fraction`, where the trainer gives it: the share of units whose activation is zero
    for the whole batch.

    Why it matters: dead rectifiers get no gradient and stay dead (Maas et al. 2013); capacity is lost.

    Formula: more than half, for 3 records in a row.

    Judges from: 3 values.

    What to do: lower the learning rate, use a leaky activation, check initialisation.
    """

    severity = "warning"
    family = "gradient"
    metrics = ("dead_fraction",)
    baselined = False

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        share = moment.values[metric]
        self.memory["dead"] = min(RECORDS, self.memory.get("dead", 0) + 1) if SHARE < share <= 1 else 0
        if self.memory["dead"] < RECORDS:
            return None
        return Verdict(
            message=f"{100 * share:.0f} % of the units are dead at {moment.where}",
            advice="Lower the learning rate, use a leaky activation, check the initialisation.",
            metric=metric, value=share, threshold=SHARE, number=f"{100 * share:.0f}pct", strategy="share",
        )  # fmt: skip
