import math
from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict, percent
from smart_monitor.stats.baseline import MATURE

WINDOW = 10
LEAST = 3
NOISES = 4.0
SHARE = 0.05


class BatchSizeImpact(Rule):
    """The loss moved when the batch size changed.

    What it watches: `loss` in the 10 records before and after a change of `batch_size`.

    Why it matters: a larger batch without a larger learning rate slows the run down, a smaller one may make
    it unstable; the curve alone does not say which it was.

    Formula: |mean after - mean before| > 4 standard errors of the difference of the two means (noise of the
    run x sqrt(1/n + 1/10)), and > 5 % of the level.

    Judges from: 20 admitted losses.

    What to do: scale the learning rate with the batch size (linear rule, Goyal et al. 2017).
    """

    severity = "info"
    metrics = ("loss",)
    window: ClassVar[int] = WINDOW
    share: ClassVar[float] = SHARE
    earlier: ClassVar[int] = MATURE

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        size, memory = moment.values.get("batch_size"), self.memory
        if size is not None and size != memory.get("size") and 0 < size < math.inf:
            self._changed(moment, metric, size)
        if "after" not in memory:
            return None
        loss, after = moment.values[metric], memory["after"]
        if loss - loss == 0:
            after.append(loss)
        if len(after) < self.window:
            return None
        del memory["after"]
        old, new, before, limit = memory.pop("change")
        mean = sum(v / self.window for v in after)
        if not abs(mean - before) > limit:
            return None
        return Verdict(
            message=f"loss went from {before:.4g} to {mean:.4g} after the batch size changed from {old:g} to {new:g}",
            advice="Scale the learning rate with the batch size.",
            metric=metric, value=mean, baseline=before, threshold=limit, strategy="before_after",
            number=f"{percent(100 * (mean / before - 1))}pct" if before > 0 else "",
        )  # fmt: skip

    def _changed(self, moment: Moment, metric: str, size: float) -> None:
        memory, base = self.memory, moment.baselines[metric]
        past = list(base.seen)[-self.window :]
        if "size" in memory and base.admitted >= self.earlier and len(past) >= LEAST:
            before = sum(v / len(past) for v in past)
            spread = max(NOISES * base.noise * math.sqrt(1 / len(past) + 1 / self.window), self.share)
            memory.update(change=[memory["size"], size, before, min(spread * base.unit, 1e308)], after=[])
        memory["size"] = size
