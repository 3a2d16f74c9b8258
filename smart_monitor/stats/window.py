"""Sliding windows that know their median or their quartiles: O(log n) search, one memmove, no recomputation."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from itertools import islice

SORT_ANEW = 16
"""Values from which sorting a window anew is cheaper than putting each in its place."""
CAP = 4.0
"""No single share of a level weighs more than four times the level."""
PARTS = 1_000_000
"""Shares of a level are kept as whole millionths: their squares add up exactly, and a state is half as long."""


_MOST = round(CAP * PARTS)


def parts(share: float) -> int:
    """A share of a level in whole PARTS, capped."""
    if -CAP < share < CAP:
        return round(share * PARTS)
    return _MOST if share > 0 else -_MOST


class MedianWindow:
    """The last `size` values in order of arrival, and their median.

    The median of an even number of values is the mean of the middle two. Values must be finite.
    """

    __slots__ = ("_ordered", "median", "size", "values")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self.size = size
        self.values: deque[float] = deque(values, maxlen=size)
        self._ordered = sorted(self.values)
        self.median = self._middle() if self._ordered else math.nan
        """NaN while it is empty. An attribute, for it is read more often than a value comes."""

    def push(self, value: float) -> None:
        values, ordered = self.values, self._ordered
        n = len(values)
        if n == self.size:
            del ordered[bisect_left(ordered, values[0])]
        else:
            n += 1
        values.append(value)  # drops values[0] where it is full
        insort(ordered, value)
        self.median = ordered[n >> 1] if n & 1 else self._middle()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def highest(self) -> float:
        """The highest value; IndexError while the window is empty."""
        return self._ordered[-1]

    def _middle(self) -> float:
        ordered, middle = self._ordered, len(self._ordered) >> 1
        if len(ordered) & 1:
            return ordered[middle]
        low, high = ordered[middle - 1], ordered[middle]
        mean = (low + high) / 2
        return mean if mean - mean == 0 else low / 2 + high / 2  # the sum of two finite values may be infinite


class QuartileWindow:
    """The last `size` values in order of arrival, and the distance of their quartiles.

    It is told a value at every record and asked only where something is the matter, so that it sorts when it
    is asked. Values must be finite.
    """

    __slots__ = ("_late", "_ordered", "_some", "size")

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self.size = size
        self._some: deque[float] = deque(values, maxlen=size + SORT_ANEW)
        """The window, and a few before it: those that have to leave the order when it is asked again."""
        self._ordered: list[float] = []
        self._late = SORT_ANEW + 1
        """Values that came since the order was made."""

    def push(self, value: float) -> float:
        """Take in a value; what left the window for it, 0 while there was room."""
        some = self._some
        left = some[-self.size] if len(some) >= self.size else 0
        some.append(value)
        self._late += 1
        return left

    def __len__(self) -> int:
        return min(len(self._some), self.size)

    @property
    def values(self) -> list[float]:
        """The window in order of arrival."""
        return list(self._some)[-self.size :]

    @property
    def quartiles(self) -> float:
        """Distance between the lower and the upper quartile (nearest rank); 0.0 below 4 values."""
        ordered, some, late = self._ordered, self._some, self._late
        if late > SORT_ANEW:
            ordered = self._ordered = sorted(self.values)
        elif late:
            n = len(some)
            for place in range(n - late, n):
                insort(ordered, some[place])
                if place >= self.size:
                    del ordered[bisect_left(ordered, some[place - self.size])]
        self._late = 0
        n = len(ordered)
        return ordered[(3 * n) >> 2] - ordered[n >> 2] if n >= 4 else 0.0

    def lately(self, count: int) -> float:
        """The same distance among the last `count` values alone; 0.0 if there are fewer."""
        n = len(self._some)
        if n < count:
            return 0.0
        ordered = sorted(islice(self._some, n - count, n))
        return ordered[(3 * count) >> 2] - ordered[count >> 2]
