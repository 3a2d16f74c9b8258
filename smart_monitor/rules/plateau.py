import math
from operator import mul
from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict

BLOCK = 10
BLOCKS = 20
STILL = 0.005
BOUND = 0.02
WINDOWS = ((BLOCKS, 2.10), (2 * BLOCKS, 2.02))
"""Blocks asked, and Student's t of 95 % for them: more of them only where noise hides what fewer say."""
HUGE = 1e100
CENTRED = {blocks: [i - (blocks - 1) / 2 for i in range(blocks)] for blocks, _ in WINDOWS}
SQUARES = {blocks: sum(i * i for i in centred) for blocks, centred in CENTRED.items()}


class Plateau(Rule):
    """A loss that no longer falls.

    What it watches: `loss`, as the means of the last 20 blocks of 10 records, or of the last 40.

    Why it matters: the remaining compute may be better spent with another learning rate, or elsewhere.

    Formula: least-squares slope of the block means over the 200 records: its estimate moves by at most 0.5 %
    of the level in 200 records, and its lower 95 % bound (Student's t, 18 degrees of freedom) falls by at
    most 2 %: noise wider than that hides a plateau, and is not taken for one. The noisier a run, the longer one
    must look: where that bound, and not a move beyond it, is what speaks against it, the last 400 are asked for
    the same two (38 degrees of freedom). The convergence rate (fall in 200 records, in per cent) stands in the
    evidence, with the records looked at.

    Judges from: 200 values (400 where the noise is above some 4 % of the level), and then at the end of every
    block; told anew only after 200 values without it.

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
        if len(means) > WINDOWS[-1][0]:
            del means[0]
        found = _still(means, self.still)
        if found is None:
            return None
        rate, blocks = found
        fall, records = rate * blocks / BLOCKS, self.every * blocks
        return Verdict(
            message=f"loss has {'fallen' if fall > 0 else 'risen'} by only {abs(fall):.2f} % over the last "
            f"{records} records at {moment.where}",
            advice="Lower the learning rate, or stop if the target is reached.",
            metric=metric, value=loss, threshold=100 * self.still, strategy="trend",
            evidence={"convergence_rate_percent": rate, "records": records},
        )  # fmt: skip


def _still(means: list[float], most: float) -> tuple[float, int] | None:
    """(by how many per cent the loss falls in BLOCKS blocks, blocks asked) if that is next to nothing; else None."""
    for blocks, t_95 in WINDOWS:
        if len(means) < blocks:
            return None
        slope, error = _trend(means[-blocks:])
        if abs(slope) <= most and t_95 * error - slope <= BOUND / STILL * most:
            return -100 * slope, blocks
        # What surely moves does not stand still, however little is left of it in a longer window; NaN says nothing.
        if not abs(slope) - t_95 * error <= most:
            return None
    return None


def _trend(means: list[float]) -> tuple[float, float]:
    """Least-squares slope in BLOCKS blocks and its standard error, relative to the level; NaN on a level of 0."""
    blocks = len(means)
    level = sum(means) / blocks
    if not level:
        return math.nan, math.nan
    away, squares = [m / level - 1 for m in means], SQUARES[blocks]
    slope = sum(map(mul, CENTRED[blocks], away)) / squares
    rest = max(sum(map(mul, away, away)) - slope * slope * squares, 0.0) / (blocks - 2)
    return slope * BLOCKS, math.sqrt(rest / squares) * BLOCKS
