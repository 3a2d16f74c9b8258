"""The window against the slow way of saying it."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.stats.window import SORT_ANEW, MedianWindow, QuartileWindow

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


@given(st.lists(st.tuples(FLOATS, st.integers(0, 3)), min_size=1, max_size=80), st.integers(1, 21))
def test_the_quartiles_are_those_of_the_last_values_however_seldom_they_are_asked(
    values: list[tuple[float, int]], size: int
) -> None:
    window, seen = QuartileWindow(size), list[float]()
    for value, asked in values:
        assert window.push(value) == (seen[-size] if len(seen) >= size else 0.0)
        seen.append(value)
        ordered = sorted(seen[-size:])
        n = len(ordered)
        if not asked:
            assert window.quartiles == (ordered[3 * n // 4] - ordered[n // 4] if n >= 4 else 0.0)
    assert ordered == sorted(window.values)


def test_a_window_that_nobody_asks_remembers_no_more_than_its_values() -> None:
    window = QuartileWindow(4, [1.0, 2.0, 3.0, 4.0])
    assert window.quartiles == 2.0
    for n in range(100 * SORT_ANEW):
        window.push(float(n))
    assert len(window._some) <= 4 + SORT_ANEW
    assert window.values == [1596.0, 1597.0, 1598.0, 1599.0]
    assert window.quartiles == 2.0


def test_the_quartiles_of_the_latest_values_alone() -> None:
    window = QuartileWindow(50, [0.0] * 40)
    assert window.lately(24) == 0.0
    for value in range(1, 25):
        window.push(float(value))
    assert window.lately(24) == 12.0
    assert QuartileWindow(50, [1.0] * 23).lately(24) == 0.0
