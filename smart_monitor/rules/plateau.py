import math
from operator import mul
from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict

BLOCK = 10
BLOCKS = 20
STILL = 0.005
BOUND = 0.02
T_95 = 2.1
HUGE = 1e100
CENTRED = [i - (BLOCKS - 1) / 2 for i in range(BLOCKS)]
SQUARES = sum(i * i for i in CENTRED)


class Plateau(Rule):
    """A loss that no longer falls.

    What it watches: `loss`, as the means of the last 20 blocks of 10 records.

    Why it matters: the remaining compute may be better spent with another learning rate, or elsewhere.

    Formula: least-squares slope of the block means over the 200 records: its estimate moves by at most 0.5 %
    of the level over the window, and its lower 95 % bound (Student's t, 18 degrees of freedom) falls by at
    most 2 %: noise wider than that hides a plateau, and is not taken for one. The convergence rate (fall over
    the window, in per cent) stands in the evidence.

    Judges from: 200 values, and then at the end of every block; told anew only after 200 values without it.

    What to do: lower the learning rate, or stop if the target is reached.
    """

    severity = "info"
    metrics = ("loss",)
    every = BLOCK
    rearm = BLOCKS
    still: ClassVar[float] = STILL

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        loss, memory = moment.values[metric], self.memory
        mean = sum([*moment.baselines[metric].lately(self.every - 1), loss]) / self.every
        if not -HUGE < mean < HUGE:
            return None
        means: list[float] = memory.setdefault("means", [])
        means.append(mean)
        if len(means) > BLOCKS:
            del means[0]
        fall = _still(means, self.still)
        if fall is None:
            return None
        return Verdict(
            message=f"loss has {'fallen' if fall > 0 else 'risen'} by only {abs(fall):.2f} % over the last "
            f"{self.every * BLOCKS} records at {moment.where}",
            advice="Lower the learning rate, or stop if the target is reached.",
            metric=metric, value=loss, threshold=100 * self.still, strategy="trend", evidence={"convergence_rate_percent": fall},
        )  # fmt: skip


def _still(means: list[float], most: float) -> float | None:
    """By how many per cent the loss has fallen, if that is next to nothing; else None."""
    level = sum(means) / len(means)
    if len(means) < BLOCKS or not level:
        return None
    slope = sum(map(mul, CENTRED, means)) / SQUARES / level
    if not abs(slope) * BLOCKS <= most:
        return None
    rest = sum((m / level - 1 - slope * i) ** 2 for i, m in zip(CENTRED, means, strict=True)) / (BLOCKS - 2)
    steepest = slope - T_95 * math.sqrt(rest / SQUARES)
    return -100 * slope * BLOCKS if -steepest * BLOCKS <= BOUND / STILL * most else None
