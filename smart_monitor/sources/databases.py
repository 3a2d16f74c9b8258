"""SQLite stores of others, read from a private copy and never in place: a reader's lock must never meet the trainer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smart_monitor.model import Record
from smart_monitor.names import clean
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.files import CannotSee, identity_of, must_be_regular, shown, why

if TYPE_CHECKING:
    import sqlite3

MAX_BYTES = 4 << 30
TRIES = 5
_STEPS = 50_000_000
"""Instructions of SQLite's machine after which a query is given up: a file may hold a schema that never ends."""


@contextmanager
def private_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a copy of the database at `path` and of what its journal still holds. Raises CannotSee.

    The copy is whole: nothing changed while it was made. It is gone afterwards.
    """
    import sqlite3  # not for the daemon, which reads no database
    import tempfile

    with tempfile.TemporaryDirectory(prefix="smart-monitor-") as directory:
        copy = Path(directory) / "copy.db"
        try:
            _copied(path, copy)
            connection = sqlite3.connect(copy)
        except OSError as error:
            raise CannotSee(why(str(path), error)) from None
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            budget = iter(range(_STEPS // 10_000))
            connection.set_progress_handler(lambda: next(budget, None) is None, 10_000)
            yield connection
        except sqlite3.Error as error:
            raise CannotSee(f"{shown(str(path))} cannot be read as a database: {clean(error)}.") from None
        finally:
            connection.close()


def _copied(path: Path, copy: Path) -> None:
    """Copy database and write-ahead log, until nothing changed meanwhile. Raises OSError, CannotSee."""
    parts = [(path, copy), (path.with_name(path.name + "-wal"), copy.with_name(copy.name + "-wal"))]
    must_be_regular(str(path), os.stat(path))
    if os.stat(path).st_size > MAX_BYTES:
        raise CannotSee(f"{shown(str(path))} is larger than the {MAX_BYTES >> 30} GiB that are copied to be read.")
    for _ in range(TRIES):
        before = [_identity(source) for source, _ in parts]
        for source, target in parts:
            target.unlink(missing_ok=True)
            if _identity(source) is not None:
                shutil.copyfile(source, target)
        if before == [_identity(source) for source, _ in parts]:
            return
    raise CannotSee(f"{shown(str(path))} is written all the time: it could not be copied whole in {TRIES} tries.")


def _identity(path: Path) -> list[int] | None:
    try:
        return identity_of(os.stat(path))
    except FileNotFoundError:
        return None


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns; empty if there is no such table, or it is none of its own."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if kind is None or kind[0] != "table":
        return set()
    return {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}


class Database:
    """One store. A format gives `rows`. For replay: live reading is refused with a sentence."""

    repeats = True
    paths: Sequence[str] = ()

    def __init__(self, path: Path, run: str, name: str) -> None:
        self.path = path
        self.run = run
        self.name = clean(name)

    def rows(self, connection: sqlite3.Connection, tell: Callable[[str], None]) -> Iterator[Record]:
        """The records of the newest run, in order. Raises sqlite3.Error, CannotSee."""
        raise NotImplementedError

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """Everything at once, if nothing more can come (`final`) and nothing was read yet; else nothing."""
        if not final:
            reason = f"{shown(str(self.path))} is a database, which is read for replay only: a reader could hold up the trainer."
            return Pass(cursor, Sight(False, reason, str(self.path)))
        told: list[str] = []
        try:
            records = [] if cursor.get("read") else list(self.whole(told.append))
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), str(self.path)))
        seen = [r._replace(seen=now_wall) for r in records]
        return Pass({"read": True}, Sight(True, "", str(self.path)), seen, oddities=tuple(told[:8]), odd=len(told))

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """Every row of the newest run. Raises CannotSee."""
        with private_copy(self.path) as connection:
            yield from self.rows(connection, tell)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """It is read in one go, or not at all."""
        return cursor


def choose(runs: Sequence[Sequence[Any]], tell: Callable[[str], None], path: Path) -> Any:
    """The first of `runs` (key, name), the newest; says which that is if there are others."""
    if len(runs) > 1:
        others = ", ".join(clean(r[1] or r[0], 40) for r in runs[1:6]) + (" …" if len(runs) > 6 else "")
        newest = clean(runs[0][1] or runs[0][0], 60)
        tell(f"{shown(str(path))} holds {len(runs)} runs; the newest is read, {newest}. Others: {others}")
    return runs[0][0]
