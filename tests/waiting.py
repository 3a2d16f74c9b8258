"""Waiting, in tests, for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds that a test waits for what should take one: the machine may be busy with others, whom copying lets go first."""


def until(look: Callable[[], T], what: str = "it", limit: float = PATIENCE) -> T:
    """The first true answer of `look`."""
    deadline = time.monotonic() + limit
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen in {limit:g} s"
        time.sleep(0.01)
    return found
