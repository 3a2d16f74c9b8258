"""Options given by name: unknown ones are refused with the nearest name, and so are numbers that mean nothing."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises ValueError for the first name that is not known."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            raise ValueError(
                f"{where}: unknown option {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known) or 'none'}")
            )


def positive(**numbers: Any) -> None:
    """Raises ValueError for a number that is not finite or not above 0; None stands for "not given"."""
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf):
            raise ValueError(f"{name} must be a number above 0, not {number!r}")


def group(given: Mapping[str, Any] | None, part: type, where: str) -> dict[str, Any]:
    """The options of one part, checked against what its `__init__` takes. Raises ValueError, TypeError."""
    from inspect import signature

    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{where} takes a dictionary of options, not {type(given).__name__}")
    refuse_unknown(given, [n for n in signature(part).parameters if n != "repeat"], where)
    return dict(given)
