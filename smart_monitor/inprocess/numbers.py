"""Numbers out of whatever training code holds them in: tensors, arrays, lists, plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def flat(values: Any) -> list[float]:
    """Every element as a float, in order. Tensors of any device and dtype, arrays, nested sequences, numbers."""
    if hasattr(values, "detach"):
        values = values.detach().double().cpu()
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        return [number for value in values for number in flat(value)]
    return [float(values)]


def scalar(value: Any) -> float:
    """One number. Raises ValueError for anything that is not one."""
    found = flat(value)
    if len(found) != 1:
        raise ValueError(f"one number is needed, not {len(found)}")
    return found[0]


def finite(values: Any) -> list[float]:
    """The finite ones among `flat`."""
    return [v for v in flat(values) if math.isfinite(v)]
