"""Calibration of preferences: are pairs won as often as the model is sure of them?

Everything is said of *margins*, reward of the chosen answer less reward of the rejected one. By Bradley and Terry
(1952) the chosen one wins with probability p = sigmoid(margin). Since the chosen answer comes first in every pair,
all labels are 1; so the model's confidence max(p, 1 - p) is held against how often it is right (margin > 0; a tie is
right by half).

What a number is worth depends on how many pairs it comes from: the calibration error of a perfect model is 0.06 on
average at 128 pairs. Those who report one hold it against what chance gives (`probe/rewards.py` draws that).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

BINS = 10
SURE = 40.0
"""Margins beyond are 1 to double precision."""
STEPS, CLOSE = 100, 1e-14
"""Steps of `fitted_scale` at most (some 8 are usual), and the relative length of one at which it is there."""
SCALE_MOST = 1e3
"""The scale of pairs that are all ordered rightly has no upper bound; it is cut here."""
SCALE_UNITS = 1e300
"""The same, times the largest margin: where numbers end."""


class Bin(NamedTuple):
    """One bar of the reliability diagram; `confidence` and `accuracy` are means, NaN in an empty bin."""

    low: float
    high: float
    pairs: int
    confidence: float
    accuracy: float


class Calibration(NamedTuple):
    """How well margins agree with preferences."""

    pairs: int
    accuracy: float
    error: float
    """Expected calibration error: the mean over bins, weighted by pairs, of |accuracy - confidence| (Guo et al. 2017)."""
    brier: float
    """Mean (1 - p)^2 (Brier 1950); 0.25 is what a coin gives."""
    log_loss: float
    """Mean -log p, in nats; 0.693 is what a coin gives."""
    bins: tuple[Bin, ...]


def confidence(margin: float) -> float:
    """max(p, 1 - p) of p = sigmoid(margin), in [0.5, 1]."""
    return 1.0 / (1.0 + math.exp(-min(abs(margin), SURE)))


def calibration(margins: Sequence[float], bins: int = BINS) -> Calibration:
    """The calibration of finite margins, over `bins` equal bins of the confidence from 0.5 to 1.

    Raises ValueError for no margins, one that is not finite, or no bins.
    """
    if not margins or bins < 1 or not all(map(math.isfinite, margins)):
        raise ValueError("calibration needs at least one pair, finite rewards and at least one bin")
    sure = [confidence(m) for m in margins]
    right = [0.5 if m == 0 else float(m > 0) for m in margins]
    places = [_place(c, bins) for c in sure]
    found = []
    for k in range(bins):
        inside = [i for i, place in enumerate(places) if place == k]
        n = len(inside)
        mean_sure = math.fsum(sure[i] for i in inside) / n if n else math.nan
        mean_right = math.fsum(right[i] for i in inside) / n if n else math.nan
        found.append(Bin(0.5 + k / (2 * bins), 0.5 + (k + 1) / (2 * bins), n, mean_sure, mean_right))
    n = len(margins)
    error = math.fsum(b.pairs * abs(b.accuracy - b.confidence) for b in found if b.pairs) / n
    return Calibration(
        n, math.fsum(right) / n, error, _brier(sure, right),
        math.fsum(softplus(-m) for m in margins) / n, tuple(found),
    )  # fmt: skip


def fitted_scale(margins: Sequence[float]) -> float:
    """The factor on all margins that fits the pairs best; below 1 the model is too sure of itself.

    It is the b >= 0 that maximises sum log sigmoid(b margin), by Newton's steps within bounds: the slope falls all the way.

    At most 1000 (margins that are never wrong), 0.0 where no positive factor helps.
    """
    unit = max(map(abs, margins), default=0.0)
    if unit == 0 or math.fsum(m / unit for m in margins) <= 0:
        return 0.0
    margins = [m / unit for m in margins]  # so that no square leaves the range of a number
    low, high = 0.0, min(SCALE_MOST * unit, SCALE_UNITS)
    if _slope(margins, high)[0] > 0:
        return SCALE_MOST
    factor = 0.0
    for _ in range(STEPS):
        slope, bend = _slope(margins, factor)
        low, high = (factor, high) if slope > 0 else (low, factor)
        before, factor = factor, factor + slope / bend if bend > 0 else high
        if not low <= factor <= high:
            factor = (low + high) / 2
        if abs(factor - before) <= CLOSE * factor:
            break
    return factor / unit


def softplus(x: float) -> float:
    """log(1 + exp(x)), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def quantile(ordered: Sequence[float], level: float) -> float:
    """The smallest of sorted values that at least a share `level` of them does not exceed (inverse distribution function)."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]


def _place(confident: float, bins: int) -> int:
    return min(bins - 1, int((confident - 0.5) * 2 * bins))


def _brier(sure: Sequence[float], right: Sequence[float]) -> float:
    """Mean squared distance to the outcome; of a tie, 0.25."""
    return math.fsum((1 - c) ** 2 * r + c * c * (1 - r) for c, r in zip(sure, right, strict=True)) / len(sure)


def _slope(margins: Sequence[float], factor: float) -> tuple[float, float]:
    """(slope, minus the curvature) of sum log sigmoid(factor margin)."""
    slopes, bends = [], []
    for m in margins:
        wrong = 1.0 / (1.0 + math.exp(max(-700.0, min(700.0, factor * m))))
        slopes.append(m * wrong)
        bends.append(m * m * wrong * (1.0 - wrong))
    return math.fsum(slopes), math.fsum(bends)
