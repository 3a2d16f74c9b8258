"""Whether a planted fault can be seen in the log at all, by looking at both sides of it: nothing here is known to a rule.

For a metric and an event, `before` is the 60 finite values before it and `after` the 40 from 10 rows past its end. The
noise is the larger of 1.4826 x MAD of `before` about its running median of 11, and 1 % of the level. Seen is

* a point: the worst value of the event (and 5 rows more) stands 8 noises and 30 % (norms: ten times) above the median of
  `before`, above all of `before`, and 30 % above the median of `after` or of `before`;
* a level: the median of the 15 rows from its start, or from its end, stands 8 noises and 30 % above that of `before`;
* accuracy and reward fall instead of rise: accuracy by 15 points, reward by half of what the run had gained.

Norms that vanish, NaN, restarts, overfitting and plateaus have criteria of their own below. What is not seen is
neutral: naming it is no fault, nor is silence. So is a spike told at a hard batch of a sound run that nobody could tell
from one when it came (`unforeseen`); all that is told besides is a false alarm.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

Row = dict[str, Any]
LOSS = ["loss_spike", "divergence", "nan"]
HARD_BATCH = "hard_batch"
"""The kind of an event that is no fault."""
BEFORE, AFTER = 60, 40
NOISES, RISE = 8.0, 0.3
"""What a rise must be above the level to be seen: as in the labels of real logs."""
BESIDE, AROUND = 25, 50
"""Rows on either side of a hard batch that give its level, and its noise."""
ALIKE, MEMORY = 0.6, 500
"""Share of its size from which an earlier hard batch is like it, and for how many rows it is remembered."""
STANDS, STANDS_ROWS = 0.02, 200
"""What stands still moves by less than this share of its level in so many rows."""


def truths(case_kind: str, rows: list[Row], events: list[Row]) -> list[Row]:
    """The events of a run as they are written: kind, i_start, i_end, visible, expect (kinds that name it rightly)."""
    if case_kind != "clean":
        return [_fault(case_kind, rows, event) for event in events]
    hard = unforeseen(rows, [event["i_start"] for event in events])
    return [{"kind": HARD_BATCH, "i_start": at, "i_end": at, "visible": False, "expect": ["loss_spike"]} for at in hard]


def _fault(case_kind: str, rows: list[Row], event: Row) -> Row:
    start = event["i_start"]
    end = event["i_end"] if event["i_end"] >= 0 else min(len(rows) - 1, start + 60)
    expect: list[str] = []
    if case_kind in ("nan", "masked_nan"):
        expect = ["nan", "masked_nan"]
    elif case_kind.startswith("restart"):
        expect = ["restart"]
    elif case_kind == "overfitting":
        start, end, seen = overfitted(rows)
        expect = ["overfitting"] if seen else []
    elif case_kind == "plateau":
        end = len(rows) - 1
        expect = ["plateau"] if stands_still(rows, start) else []
    elif case_kind == "vanishing_gradients":
        end = event["i_end"] if event["i_end"] >= 0 else len(rows) - 1
        expect = ["gradient_vanishing"] if vanished(rows, start, end) else []
    else:
        expect = _expected(case_kind, rows, start, end)
    return {"kind": case_kind, "i_start": start, "i_end": end, "visible": bool(expect), "expect": expect}


def _expected(kind: str, rows: list[Row], start: int, end: int) -> list[str]:
    expect: list[str] = []
    if kind == "batch_size":
        return ["batch_size_impact", *LOSS] if level_moved(rows, start) else []
    signed = any(row.get("loss", 1.0) <= 0 for row in rows[:start])
    if not signed and risen(rows, "loss", start, end, RISE):
        expect += LOSS
    if risen(rows, "grad_norm", start, end, 9.0):
        expect += ["gradient_explosion"]
    if fallen(rows, start, end):
        expect += ["accuracy_drop"]
    if "reward" in rows[0] and reward_lost(rows, start):
        expect += ["reward_collapse"]
    return expect


def series(rows: list[Row], metric: str, first: int, last: int) -> list[float]:
    """Values of a metric in rows first..last-1, those that are given; what is not finite counts as infinite."""
    found = (row.get(metric) for row in rows[max(0, first) : max(0, last)])
    return [v if math.isfinite(v) else math.inf for v in found if v is not None]


def noise_of(values: list[float]) -> float:
    """Robust noise about a running median of 11, at least 1 % of the level."""
    around = [abs(v - median(values[max(0, i - 5) : i + 6])) for i, v in enumerate(values)]
    return max(1.4826 * median(around), 0.01 * abs(median(values)))


def risen(rows: list[Row], metric: str, start: int, end: int, share: float) -> bool:
    """A point or a level, as above."""
    before, event = series(rows, metric, start - BEFORE, start), series(rows, metric, start, end + 6)
    if len(before) < 20 or not event:
        return False
    level, noise = median(before), noise_of(before)
    after = series(rows, metric, end + 10, end + 10 + AFTER)
    limit = max(level + NOISES * noise, level * (1 + share))
    point = max(event) > max(limit, *before) and max(event) > 1.3 * min(level, median(after) if after else level)
    held = [median(part) for part in (event[:15], series(rows, metric, end - 7, end + 8)) if len(part) >= 8]
    return point or any(m > limit for m in held)


def fallen(rows: list[Row], start: int, end: int) -> bool:
    """Accuracy 15 points, and 8 noises, below what it was."""
    before, event = series(rows, "accuracy", start - BEFORE, start), series(rows, "accuracy", start, end + 6)
    if len(before) < 20 or not event:
        return False
    return median(before) - min(event) > max(0.15, NOISES * noise_of(before)) and min(event) < min(before)


def reward_lost(rows: list[Row], start: int) -> bool:
    """The median reward of 30 rows has lost half of what was gained since the first 30, and 3 noises."""
    first, before = series(rows, "reward", 0, 30), series(rows, "reward", start - BEFORE, start)
    held = series(rows, "reward", start, start + 30)
    if len(first) < 30 or len(before) < 20 or len(held) < 30:
        return False
    gained, lost = median(before) - median(first), median(before) - median(held)
    return gained > 0 and lost > max(0.5 * gained, 3 * noise_of(before))


def vanished(rows: list[Row], start: int, end: int) -> bool:
    """The median norm of the event is a ten-thousandth of what it was, for 5 rows at least."""
    before, event = series(rows, "grad_norm", start - BEFORE, start), series(rows, "grad_norm", start, end + 1)
    return len(before) >= 20 and len(event) >= 5 and 0 < median(event) < 1e-4 * median(before)


def level_moved(rows: list[Row], start: int) -> bool:
    """The mean loss of the 30 rows after differs by 15 % and by 5 standard errors from that of the 30 before."""
    before, after = series(rows, "loss", start - 30, start), series(rows, "loss", start, start + 30)
    if len(before) < 30 or len(after) < 30:
        return False
    one, two = sum(before) / 30, sum(after) / 30
    spread = sum((v - one) ** 2 for v in before) + sum((v - two) ** 2 for v in after)
    return abs(two - one) > max(0.15 * abs(one), 5 * math.sqrt(spread / 29 / 30))


def stands_still(rows: list[Row], start: int) -> bool:
    """At least 250 rows, after a fall of 3 % in the 100 before, that surely stand still.

    The least-squares line through all of them, its 95 % bounds included, neither falls nor rises by 2 % of the level in
    200 rows. How much noise that bears depends on how many rows there are, and not on the luck of a few means.
    """
    still = series(rows, "loss", start, len(rows))
    before = series(rows, "loss", start - 100, start)
    if len(still) < 250 or len(before) < 100:
        return False
    fell = sum(before[:50]) / 50 > 1.03 * sum(before[50:]) / 50
    slope, error = line(still)
    return fell and (abs(slope) + 1.97 * error) * STANDS_ROWS < STANDS


def line(values: list[float]) -> tuple[float, float]:
    """Least-squares slope a row and its standard error, relative to the level."""
    n, level = len(values), sum(values) / len(values)
    centred = [i - (n - 1) / 2 for i in range(n)]
    squares = sum(i * i for i in centred)
    slope = sum(i * v for i, v in zip(centred, values, strict=True)) / squares
    rest = sum((v - level - slope * i) ** 2 for i, v in zip(centred, values, strict=True)) / (n - 2)
    return slope / level, math.sqrt(rest / squares) / level


def unforeseen(rows: list[Row], hard: list[int]) -> list[int]:
    """Those hard batches that nobody could tell from a spike when they came, though the run as a whole shows that they are none.

    The labels of real logs call a spike clear if it stands 8 noises and 30 % above the median of its neighbours on both
    sides, unless two others of 60 % of its size lie within 500 rows: then it is of the run's own kind. Here only those
    before it count: of what came before, a monitor must have learned; of what comes after, it can't.
    """
    found: list[int] = []
    sizes: list[tuple[int, float]] = []
    for at in hard:
        level = max(median(side) for side in sides(rows, at, BESIDE))
        noise = noise_of([v for side in sides(rows, at, AROUND) for v in side])
        size = rows[at]["loss"] / level - 1
        alike = sum(at - row <= MEMORY and other >= ALIKE * size for row, other in sizes)
        if size > RISE and size * level > NOISES * noise and alike < 2:
            found.append(at)
        sizes.append((at, size))
    return found


def sides(rows: list[Row], at: int, count: int) -> list[list[float]]:
    """The losses of so many rows before and of so many after; a side without any is left out."""
    return [side for side in (series(rows, "loss", at - count, at), series(rows, "loss", at + 1, at + 1 + count)) if side]


def overfitted(rows: list[Row]) -> tuple[int, int, bool]:
    """(row of the best evaluation, last row, whether the mean of the last 5 stands 15 % above it while the loss fell 10 %)."""
    evals = [(i, row["eval_loss"]) for i, row in enumerate(rows) if row.get("eval_loss") is not None]
    best = min(evals, key=lambda e: e[1])[0]
    last = sum(v for _, v in evals[-5:]) / 5
    then, now = series(rows, "loss", best - 20, best + 20), series(rows, "loss", len(rows) - 40, len(rows))
    seen = len([1 for i, _ in evals if i > best]) >= 8 and last > 1.15 * dict(evals)[best]
    return best, len(rows) - 1, bool(seen and then and median(now) < 0.9 * median(then))
