"""The window against the slow way of saying it."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.stats.window import MedianWindow

FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(st.lists(FLOATS, min_size=1, max_size=60), st.integers(1, 21))
def test_the_median_is_that_of_the_last_values(values: list[float], size: int) -> None:
    window = MedianWindow(size)
    for n, value in enumerate(values, 1):
        window.push(value)
        assert statistics.median(values[max(0, n - size) : n]) == window.median
        assert min(n, size) == len(window)


def test_the_median_of_huge_values_is_finite() -> None:
    window = MedianWindow(4, [1.7e308, 1.7e308])
    assert 1.7e308 == window.median
