"""A sliding window that knows its median: O(log n) search, one memmove, no recomputation."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable


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

    @property
    def quartiles(self) -> float:
        """Distance between the lower and the upper quartile (nearest rank); 0.0 below 4 values."""
        ordered = self._ordered
        n = len(ordered)
        return ordered[(3 * n) >> 2] - ordered[n >> 2] if n >= 4 else 0.0
