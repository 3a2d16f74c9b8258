"""Whether a planted fault can be seen in the log at all, by looking at both sides of it: nothing here is known to a rule.

For a metric and an event, `before` is the 60 finite values before it and `after` the 40 from 10 rows past its end. The
noise is the larger of 1.4826 x MAD of `before` about its running median of 11, and 1 % of the level. Seen is

* a point: the worst value of the event (and 5 rows more) stands 8 noises and 30 % (norms: ten times) above the median of
  `before`, above all of `before`, and 30 % above the median of `after` or of `before`;
* a level: the median of the 15 rows from its start, or from its end, stands 8 noises and 30 % above that of `before`;
* accuracy and reward fall instead of rise: accuracy by 15 points, reward by half of what the run had gained.

Norms that vanish, NaN, restarts, overfitting and plateaus have criteria of their own below. What is not seen is
neutral: naming it is no fault, nor is silence.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

Row = dict[str, Any]
LOSS = ["loss_spike", "divergence", "nan"]
BEFORE, AFTER = 60, 40


def truth(case_kind: str, rows: list[Row], event: Row) -> Row:
    """The event as it is written: kind, i_start, i_end, visible, expect (kinds that name it rightly)."""
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
    if not signed and risen(rows, "loss", start, end, 0.3):
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
    limit = max(level + 8 * noise, level * (1 + share))
    point = max(event) > max(limit, *before) and max(event) > 1.3 * min(level, median(after) if after else level)
    held = [median(part) for part in (event[:15], series(rows, metric, end - 7, end + 8)) if len(part) >= 8]
    return point or any(m > limit for m in held)


def fallen(rows: list[Row], start: int, end: int) -> bool:
    """Accuracy 15 points, and 8 noises, below what it was."""
    before, event = series(rows, "accuracy", start - BEFORE, start), series(rows, "accuracy", start, end + 6)
    if len(before) < 20 or not event:
        return False
    return median(before) - min(event) > max(0.15, 8 * noise_of(before)) and min(event) < min(before)


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
    """At least 250 rows, whose fourths all have means within 1 % of one another, after a fall of 3 % in the 100 before."""
    still = series(rows, "loss", start, len(rows))
    before = series(rows, "loss", start - 100, start)
    if len(still) < 250 or len(before) < 100:
        return False
    quarter = len(still) // 4
    means = [sum(still[i * quarter : (i + 1) * quarter]) / quarter for i in range(4)]
    fell = sum(before[:50]) / 50 > 1.03 * sum(before[50:]) / 50
    return fell and max(means) < 1.01 * min(means)


def overfitted(rows: list[Row]) -> tuple[int, int, bool]:
    """(row of the best evaluation, last row, whether the mean of the last 5 stands 15 % above it while the loss fell 10 %)."""
    evals = [(i, row["eval_loss"]) for i, row in enumerate(rows) if row.get("eval_loss") is not None]
    best = min(evals, key=lambda e: e[1])[0]
    last = sum(v for _, v in evals[-5:]) / 5
    then, now = series(rows, "loss", best - 20, best + 20), series(rows, "loss", len(rows) - 40, len(rows))
    seen = len([1 for i, _ in evals if i > best]) >= 8 and last > 1.15 * dict(evals)[best]
    return best, len(rows) - 1, bool(seen and then and median(now) < 0.9 * median(then))
