import math
from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict

BLOCK = 20
REFERENCE = 5
"""Blocks that the usual spread is known from, and its memory."""
TIMES = 4.0
LEAST = 1.0
HUGE = 1e100


class GradientVariance(Rule):
    """Gradient norms that scatter far more than they used to.

    What it watches: `grad_norm`, in blocks of 20 values.

    Why it matters: a growing spread of the norm comes before many spikes: batches too small, a learning
    rate at the edge of stability.

    Formula: coefficient of variation (standard deviation / mean) of a block > 4 x the average of the
    blocks before (exponential, 5 blocks), and > 1.

    Judges from: 120 values, and then at the end of every block.

    What to do: nothing by itself; together with spikes, a larger batch or a lower learning rate.
    """

    severity = "info"
    metrics = ("grad_norm",)
    every = BLOCK
    least: ClassVar[float] = LEAST

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        memory, block = self.memory, [*moment.baselines[metric].lately(self.every - 1), moment.values[metric]]
        mean = sum(block) / self.every
        if not 0 < mean < HUGE or min(block) < 0:
            return None
        spread = math.sqrt(sum((v / mean - 1) ** 2 for v in block) / self.every)
        usual, blocks = memory.get("usual", spread), memory.get("blocks", 0)
        memory["blocks"] = min(blocks + 1, REFERENCE)
        memory["usual"] = usual + (spread - usual) / memory["blocks"]
        limit = max(TIMES * usual, self.least)
        if blocks < REFERENCE or not spread > limit:
            return None
        return Verdict(
            message=f"gradient norms scatter by {100 * spread:.0f} % of their mean at {moment.where}; usual were "
            f"{100 * usual:.0f} %",
            advice="With spikes beside it: a larger batch, or a lower learning rate.",
            metric=metric, value=spread, baseline=usual, threshold=limit, strategy="coefficient_of_variation",
        )  # fmt: skip
