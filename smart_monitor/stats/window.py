"""Sliding windows that know their median or their quartiles: O(log n) search, one memmove, no recomputation."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

SORT_ANEW = 16
"""Values from which sorting a window anew is cheaper than putting each in its place."""


class MedianWindow:
    """The last `size` values in order of arrival, and their median.

    The median of an even number of values is the mean of the middle two. Values must be finite.
    """

    __slots__ = ("_ordered", "size", "values")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self.size = size
        self.values: deque[float] = deque(values, maxlen=size)
        self._ordered = sorted(self.values)

    def push(self, value: float) -> None:
        values, ordered = self.values, self._ordered
        if len(values) == self.size:
            del ordered[bisect_left(ordered, values[0])]
        values.append(value)  # drops values[0] where it is full
        insort(ordered, value)

    def __len__(self) -> int:
        return len(self.values)

    def extreme(self, side: int) -> float:
        """The highest value for a positive `side`, else the lowest; IndexError while empty."""
        return self._ordered[-1 if side > 0 else 0]

    @property
    def median(self) -> float:
        """Median of the window; IndexError while it is empty."""
        ordered = self._ordered
        n = len(ordered)
        middle = n >> 1
        if n & 1:
            return ordered[middle]
        low, high = ordered[middle - 1], ordered[middle]
        mean = (low + high) / 2
        return mean if mean - mean == 0 else low / 2 + high / 2  # the sum of two finite values may be infinite


class QuartileWindow:
    """The last `size` values in order of arrival, and the distance of their quartiles.

    It is told a value at every record and asked only where something is the matter, so that it sorts when it
    is asked. Values must be finite.
    """

    __slots__ = ("_come", "_gone", "_ordered", "size", "values")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self.size = size
        self.values: deque[float] = deque(values, maxlen=size)
        self._ordered: list[float] = []
        self._come: list[float] | None = None
        """What came since it was asked last; None where so much did that sorting anew is cheaper."""
        self._gone: list[float] = []

    def push(self, value: float) -> None:
        come, values = self._come, self.values
        if come is not None:
            if len(values) == self.size:
                self._gone.append(values[0])
            come.append(value)
            if len(come) > SORT_ANEW:
                self._come = None
        values.append(value)  # drops values[0] where it is full

    def __len__(self) -> int:
        return len(self.values)

    @property
    def quartiles(self) -> float:
        """Distance between the lower and the upper quartile (nearest rank); 0.0 below 4 values."""
        if self._come is None:
            self._ordered = sorted(self.values)
        elif self._come:
            ordered = self._ordered
            for value in self._come:
                insort(ordered, value)
            for value in self._gone:
                del ordered[bisect_left(ordered, value)]
        self._come, self._gone = [], []
        ordered = self._ordered
        n = len(ordered)
        return ordered[(3 * n) >> 2] - ordered[n >> 2] if n >= 4 else 0.0
