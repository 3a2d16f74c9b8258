"""Reading a file that grows in pieces, as its reader in life meets it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Source


def read_all(source: Source, cursor: Cursor, final: bool = False, mono: float = 1.0) -> tuple[list[Record], Cursor]:
    """Every record that is there now, pass after pass; the cursor goes through JSON, as in a restart."""
    found: list[Record] = []
    while True:
        seen = source.read(cursor, 1e9, mono, final)
        cursor = json.loads(json.dumps(seen.cursor, allow_nan=False))
        found += seen.records
        if seen.retry_in != 0.0:
            return found, cursor


def ignored(sentence: str) -> None:
    """A reader who does not care for oddities."""


def in_pieces(make: Callable[[], Source], path: Path, content: bytes, cuts: Iterable[int]) -> list[Record]:
    """The records of `content`, appended to `path` in pieces and read after each, each time by a new reader."""
    places = sorted({min(c, len(content)) for c in cuts} | {0, len(content)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    cursor: Cursor = {}
    found: list[Record] = []
    for start, end in pairwise(places):
        with path.open("ab") as file:
            file.write(content[start:end])
        some, cursor = read_all(make(), cursor)
        found += some
    return found + read_all(make(), cursor, final=True)[0]


def at_once(make: Callable[[], Source], path: Path, content: bytes) -> list[Record]:
    """The records of `content`, read in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return read_all(make(), {}, final=True)[0]
