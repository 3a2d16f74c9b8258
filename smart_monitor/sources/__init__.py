"""Sources: each module here reads one file format that trainers write, from a cursor, and never writes.

A source obeys three laws, held by `tests/sources/test_conformance.py` for every module in here:
it never raises, whatever bytes it meets (what it can't use it says, in `Sight` or `Pass.oddities`);
its cursor is a plain JSON object that it does not change in place; reading on from a cursor that
went through JSON, cut anywhere, gives the same records as reading in one go.

A module describes its format by a module-level `FORMAT`, which `formats()` finds: to add a format, add a
file; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from smart_monitor.model import Reading, Record

Cursor = dict[str, Any]
"""Where a source stands: plain JSON, its content private to the source; {} is the beginning."""


class Sight(NamedTuple):
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
    """Position in `records` -> the bytes of the read it came from (one-value files), or of the status that stood beside it."""
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
    news: tuple[str, ...] = ()
    """Sentences about what is read from now on."""


class Source(Protocol):
    """A reader of one file of one run."""

    name: str
    """The `source` of its records."""
    repeats: bool
    """Does reading again from a cursor give the same records, one for one?"""

    @property
    def paths(self) -> Sequence[str]:
        """Where an event of the file system is worth a look; with a slash at its end: anything in that directory."""
        ...

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """Look once. `now_wall` is unix time, `now_mono` seconds on a clock that never steps.

        `final`: the writer is gone, so what would be waited for (the end of a line, of a group) is taken as it is.
        """
        ...

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """Every record of what stands there, for replay, with `seen` None; sentences about the rest go to `tell`.

        Raises files.CannotSee (one sentence) or OSError.
        """
        ...

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `count` lines that reading on from `cursor` gave; `last`: the last record and state of them."""
        ...


@runtime_checkable
class Steady(Protocol):
    """A source that can tell by a stat or two that a look would bring nothing."""

    def unmoved(self, cursor: Cursor, now_mono: float) -> bool:
        """Does all stand as it stood when `read` gave this cursor, and was it in order? If not, or in doubt: False."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set about reading."""

    max_bytes: int = 16 << 20
    """Of a file that is read as one document."""
    patterns: tuple[str, ...] = ()
    """Regular expressions with named groups, for lines of text logs."""


def itself(path: Path) -> Path | None:
    """The place of a source that is one file."""
    return path


@dataclass(frozen=True, slots=True)
class Format:
    """One file format: how its files are called, how they are read, how much they are worth."""

    name: str
    """One word, for `--source`."""
    title: str
    """For people: "reads {title} ..."."""
    patterns: tuple[str, ...]
    """fnmatch patterns of its files' names."""
    order: int
    """Of several sources of one run, a metric is judged from that of the lowest: append-only logs before one-value files."""
    open: Callable[[Path, str, str, Options], Source]
    """(place, run, name or "", options) -> the source."""
    index: str
    """What `record` counts in replay."""
    place: Callable[[Path], Path | None] = itself
    """The file or directory that one source of the format reads, from one of its files; None: not one of its files."""
    live: bool = True
    """May it be read while its writer writes?"""
    last_resort: bool = False
    """Looked at only where nothing else is found."""
    vague: bool = False
    """Do files of other content have such names, too? Then the content is looked at before one is chosen."""
    late: str = ""
    """Why it tells later than the training goes, and the mend, in a sentence for `doctor`; empty if it does not."""


@lru_cache(maxsize=1)
def formats() -> tuple[Format, ...]:
    """Every format of this package, the most trusted first."""
    found: list[Format] = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        described = getattr(importlib.import_module(f"{__name__}.{module}"), "FORMAT", None)
        if isinstance(described, Format):
            found.append(described)
    return tuple(sorted(found, key=lambda f: f.order))


def record_of(run: str, source: str, index: int, reading: Reading, ids: Mapping[str, str], seen: float | None) -> Record:
    """The record that a row makes; `ids` are the source's, those of the row come on top."""
    step, by, epoch, time, total, values, nulls, own, state, note, _, _, rank = reading
    # As a tuple: a call of the class costs half as much again, by keyword thrice, and replay makes one for every row.
    return tuple.__new__(
        Record,
        (
            run, source, index, step, by, epoch, time, seen, values, rank, total, nulls, {**ids, **own} if own else ids, "record",
            state, note, False,
        ),
    )  # fmt: skip


def finished(source: Source, tell: Callable[[str], None]) -> Iterator[Record]:
    """`Source.whole` by means of its `read`, pass after pass. Raises what `whole` raises."""
    from smart_monitor.sources.files import CannotSee

    cursor: Cursor = {}
    given = 0
    while True:
        seen = source.read(cursor, 0.0, 0.0, final=True)
        for oddity in seen.oddities:
            tell(oddity)
        for record in seen.records:
            given += 1
            yield record._replace(seen=None)
        if not seen.sight.ok and not given:
            raise CannotSee(seen.sight.why)
        if seen.retry_in != 0.0:
            return
        cursor = seen.cursor
