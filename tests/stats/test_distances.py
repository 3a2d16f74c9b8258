"""Distances of samples against slow twins, and against what chance gives."""

from __future__ import annotations

import math
import random
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.stats.calibration import quantile
from smart_monitor.stats.distances import distances, kolmogorov_smirnov, null_distances

SAMPLES = st.lists(st.integers(-20, 20).map(float) | st.floats(-100, 100), min_size=1, max_size=40)


@given(SAMPLES, SAMPLES)
def test_they_are_those_of_the_distribution_functions(a: list[float], b: list[float]):
    found = distances(a, b)
    left, right, points = sorted(a), sorted(b), sorted({*a, *b})
    apart = [abs(bisect_right(left, x) / len(a) - bisect_right(right, x) / len(b)) for x in points]
    both = a + b
    mean = sum(both) / len(both)
    spread = math.sqrt(sum((v - mean) ** 2 for v in both) / len(both))
    area = sum(d * (y - x) for d, x, y in zip(apart, points, points[1:], strict=False))

    assert found.ks == pytest.approx(max(apart), abs=1e-9)
    assert found.ks == pytest.approx(kolmogorov_smirnov(left, right), abs=1e-9)
    if spread > 1e-6:
        assert found.wasserstein == pytest.approx(area / spread, rel=1e-6, abs=1e-9)
    assert found.psi >= -1e-12


@given(SAMPLES)
def test_a_sample_is_at_no_distance_from_itself(a: list[float]):
    assert distances(a, a) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


@given(SAMPLES, SAMPLES)
def test_unit_and_origin_do_not_matter(a: list[float], b: list[float]):
    a, b = [round(v) for v in a], [round(v) for v in b]

    assert distances(a, b) == pytest.approx(distances([4 * v + 8 for v in a], [4 * v + 8 for v in b]))


def test_psi_is_the_sum_over_bins_of_equal_shares():
    a, b = [float(i) for i in range(100)], [float(i) for i in range(50, 150)]
    ranks = sorted(a + b)
    edges = [ranks[20 * k] for k in range(1, 10)]
    share = [[sum(1 for v in s if bisect_right(edges, v) == k) / 100 for k in range(10)] for s in (a, b)]
    expected = sum((max(p, 0.005) - max(q, 0.005)) * math.log(max(p, 0.005) / max(q, 0.005)) for p, q in zip(*share, strict=True))

    assert distances(a, b).psi == pytest.approx(expected)


def test_alike_samples_stay_below_their_null_quantiles_and_a_shift_does_not():
    above = 0
    for seed in range(30):
        source = random.Random(seed)
        a, b = ([source.gauss(0, 1) for _ in range(100)] for _ in range(2))
        null = null_distances(a, b, 99, source.random)
        above += sum(d > quantile(n, 0.99) for d, n in zip(distances(a, b), null, strict=True))
    shifted = [v + 1 for v in b]
    null = null_distances(a, shifted, 99, source.random)

    assert above <= 7  # of 90
    assert all(d > quantile(n, 0.99) for d, n in zip(distances(a, shifted), null, strict=True))


def test_nothing_and_what_is_not_finite_is_refused():
    for a, b in (([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])):
        with pytest.raises(ValueError, match="distance needs"):
            distances(a, b)
