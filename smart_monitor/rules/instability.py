from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict
from smart_monitor.stats.baseline import CALM

WINDOW = 50
LIMIT = 0.5
OUTLIER = CALM
"""Noises above its level from which a value counts; it is not asked about calmer ones."""
WEIGHT = 5


class Instability(Rule):
    """A loss that jumps about more and more.

    What it watches: `loss`: how often in its last 50 values it has left its level by 4 noises or more.

    Why it matters: a run that spikes and recovers again and again is near the edge, whatever each spike was
    worth by itself.

    Formula: stability score = 1 - 5 x share of such values among the last 50; 0.5 or less (five or more). Values in a
    row count once: a spike that lasts is one.

    Judges from: 50 values, once the noise is known.

    What to do: lower the learning rate, or clip gradients.
    """

    severity = "info"
    metrics = ("loss",)
    rearm = WINDOW

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        base, memory, loss = moment.baselines[metric], self.memory, moment.values[metric]
        if not base.mature or loss - loss != 0:
            return None
        if not base.score(loss) >= OUTLIER:
            return None
        count = base.arrived - base.young + 1
        last, memory["last"] = memory.get("last", 0), count
        if last == count - 1:
            return None
        at = memory["at"] = [n for n in memory.get("at", []) if n > count - WINDOW]
        at.append(count)
        score = 1 - WEIGHT * len(at) / WINDOW
        if count < WINDOW or score > LIMIT:
            return None
        return Verdict(
            message=f"loss left its level {len(at)} times in the last {WINDOW} records at {moment.where}: stability {score:.2f}",
            advice="Lower the learning rate, or clip gradients.",
            metric=metric, value=score, threshold=LIMIT, number=f"{score:.2f}", strategy="stability_score",
        )  # fmt: skip
