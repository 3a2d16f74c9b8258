"""Finding checkpoints in a trainer's directory: one file a layout, found by themselves.

A layout recognises the directories or files of one family of writers and says in words what is still
*missing* from one of them; nothing missing means complete. Writers differ in what they write last, and
most write in place without a temporary name, so completeness is proved by content (markers that parse,
headers and zip directories that agree with the length, every file an index names) and by stillness,
which `Shelf` adds for all layouts alike.

Nothing here writes, locks, unpickles or changes a time stamp in a trainer's directory. To add a layout,
add a file with a module-level `LAYOUT`; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from smart_monitor.checkpoints.candidate import Candidate


@runtime_checkable
class Layout(Protocol):
    """One family of checkpoint writers."""

    name: str

    def find(self, root: Path) -> Iterable[Candidate]:
        """Candidates directly in `root`, by name alone: nothing is opened. Raises OSError if `root` can't be listed."""

    def missing(self, candidate: Candidate) -> list[str]:
        """What keeps the candidate from being complete, one clause each; empty means complete but for stillness."""

    def proof(self, candidate: Candidate) -> str:
        """What proves a candidate complete whose `missing` is empty, in words."""


def layouts() -> tuple[Layout, ...]:
    """Every layout of this package, by name of its file."""
    found: list[Layout] = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        layout = getattr(importlib.import_module(f"{__name__}.{module}"), "LAYOUT", None)
        if layout is not None:
            found.append(layout)
    return tuple(found)
