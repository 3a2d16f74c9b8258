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
from typing import Protocol, runtime_checkable

from smart_monitor.checkpoints.candidate import Candidate, Folder

ANYONES = 9
"""The turn of a layout that takes directories for the look of their names alone."""


@runtime_checkable
class Layout(Protocol):
    """One family of checkpoint writers."""

    name: str
    recognises: tuple[str, str, str]
    """Who writes it, under which names, and when it is complete but for stillness: a line of the table in the README."""
    turn: int
    """A name that two layouts would take is the one's whose turn comes first: 1 for what no one else writes, ANYONES the last."""

    def find(self, folder: Folder) -> Iterable[Candidate]:
        """Candidates directly in `folder`, by names alone (theirs, and of files that mark them): nothing is opened."""

    def missing(self, candidate: Candidate) -> list[str]:
        """What keeps the candidate from being complete, one clause each; empty means complete but for stillness."""

    def proof(self, candidate: Candidate) -> str:
        """What proves a candidate complete whose `missing` is empty, in words."""


def layouts() -> tuple[Layout, ...]:
    """Every layout of this package, in turn."""
    found: list[Layout] = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        layout = getattr(importlib.import_module(f"{__name__}.{module}"), "LAYOUT", None)
        if layout is not None:
            found.append(layout)
    return tuple(sorted(found, key=lambda layout: (layout.turn, layout.name)))
