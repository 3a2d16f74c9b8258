"""Sources: each module here reads one file format that trainers write, from a cursor, and never writes.

A source obeys three laws, held by `tests/sources/test_conformance.py` for every module in here:
it never raises, whatever bytes it meets (what it can't use it says, in `Sight` or `Pass.oddities`);
its cursor is a plain JSON object that it does not change in place; reading on from a cursor that
went through JSON, cut anywhere, gives the same records as reading in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from smart_monitor.model import Record

Cursor = dict[str, Any]
"""Where a source stands: plain JSON, its content private to the source; {} is the beginning."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Whether a source can see its file, and if not, one sentence that says why."""

    ok: bool
    why: str
    path: str


@dataclass(slots=True)
class Pass:
    """What one look at a file gave."""

    cursor: Cursor
    sight: Sight
    records: list[Record] = field(default_factory=list)
    """In file order, of kind record or state."""
    raws: dict[int, bytes] = field(default_factory=dict)
    """Position in `records` -> the bytes of the read it came from (one-value files only)."""
    heartbeat: bool = False
    """The file was written again, but nothing worth a record changed."""
    retry_in: float | None = None
    """Seconds after which to look again, sooner than usual: a torn read, or 0 for "there is more"."""
    torn: bool = False
    """What stands there is not whole (yet): this look says nothing about it."""
    oddities: tuple[str, ...] = ()
    """Sentences about what was there but could not be used; the first few."""
    odd: int = 0
    """How many such things there were, told or not."""


class Source(Protocol):
    """A reader of one file of one run."""

    name: str
    """The `source` of its records."""

    def read(self, cursor: Cursor, now_wall: float, now_mono: float) -> Pass:
        """Look once. `now_wall` is unix time, `now_mono` seconds on a clock that never steps."""
        ...

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `count` lines that reading on from `cursor` gave; `last`: the last record and state of them."""
        ...
