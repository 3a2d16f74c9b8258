"""Calibration of pairs against written-out sums, and against what chance gives."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.stats.calibration import calibration, confidence, fitted_scale, quantile

MARGINS = st.lists(st.floats(-30, 30), min_size=1, max_size=60)


def drawn(n: int, seed: int, honest: float = 1.0) -> list[float]:
    """Margins whose pairs are won with the probability that `honest` times the margin says."""
    source = random.Random(seed)
    sizes = [abs(source.gauss(0, 2)) for _ in range(n)]
    return [m if source.random() < 1 / (1 + math.exp(-honest * m)) else -m for m in sizes]


@given(MARGINS, st.integers(1, 20))
def test_it_is_the_sums_written_out(margins: list[float], bins: int):
    found = calibration(margins, bins)
    error, at = 0.0, 0
    for bar in found.bins:
        inside = sorted(margins, key=confidence)[at : at + bar.pairs]
        at += bar.pairs
        assert all(bar.low - 1e-9 <= confidence(m) <= bar.high + 1e-9 for m in inside)
        right = sum(1.0 if m > 0 else 0.5 if m == 0 else 0.0 for m in inside)
        error += abs(right - sum(confidence(m) for m in inside)) / len(margins)

    assert found.error == pytest.approx(error, abs=1e-9)
    assert found.brier == pytest.approx(sum((1 - 1 / (1 + math.exp(-m))) ** 2 for m in margins) / len(margins), abs=1e-9)
    assert found.log_loss == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / len(margins), rel=1e-9)
    assert sum(b.pairs for b in found.bins) == found.pairs == len(margins)
    assert 0 <= found.error <= 1


def test_the_fitted_scale_finds_the_temperature():
    assert fitted_scale(drawn(4000, 1)) == pytest.approx(1.0, abs=0.15)
    assert fitted_scale([3 * m for m in drawn(4000, 2)]) == pytest.approx(1 / 3, abs=0.05)
    assert fitted_scale([1.0, 2.0]) == 1e3
    assert fitted_scale([-1.0, 0.5]) == 0.0
    assert fitted_scale([0.0]) == 0.0


@given(
    st.lists(st.floats(-30, 30).filter(lambda m: m == 0 or abs(m) > 1e-6), min_size=1, max_size=60),
    st.sampled_from([1e-3, 1.0, 1e20]),
)
def test_the_fitted_scale_is_that_of_bisection(margins: list[float], unit: float):
    def slope(b: float) -> float:
        return math.fsum(m / (1 + math.exp(max(-700.0, min(700.0, b * m)))) for m in margins)

    low, high = 0.0, 1e3 * unit
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)

    assert fitted_scale([m * unit for m in margins]) == pytest.approx(low / unit, rel=1e-9)


@settings(max_examples=30)
@given(MARGINS)
def test_all_of_it_is_finite_and_in_bounds(margins: list[float]):
    found = calibration([m * 1e30 for m in margins])

    assert 0 <= found.brier <= 1 and 0 <= found.accuracy <= 1 and math.isfinite(found.log_loss)


def test_nothing_and_what_is_not_finite_is_refused():
    for margins in ([], [math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match="finite rewards"):
            calibration(margins)


def test_a_quantile_is_reached_by_its_share():
    assert [quantile([1, 2, 3, 4], level) for level in (0.0, 0.25, 0.26, 0.99, 1.0)] == [1, 1, 2, 4, 4]
