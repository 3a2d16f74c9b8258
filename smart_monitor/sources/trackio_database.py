"""trackio's store (`PROJECT.db` in its directory), for replay: rows are JSON objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smart_monitor.model import Record
from smart_monitor.names import read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.databases import Database, choose, columns
from smart_monitor.sources.files import CannotSee, shown

if TYPE_CHECKING:
    import sqlite3


class TrackioDatabase(Database):
    """The newest run of one project."""

    def __init__(self, path: Path, run: str, name: str = "") -> None:
        super().__init__(path, run, name or path.name)

    def rows(self, connection: sqlite3.Connection, tell: Callable[[str], None]) -> Iterator[Record]:
        if not {"id", "timestamp", "run_name", "step", "metrics"} <= (known := columns(connection, "metrics")):
            raise CannotSee(f"{shown(str(self.path))} is no store of trackio's: it has no table of rows.")
        key = "run_id" if "run_id" in known else "run_name"  # older stores know runs by name alone
        runs = connection.execute(f"SELECT {key}, MAX(run_name) FROM metrics GROUP BY {key} ORDER BY MAX(id) DESC").fetchall()
        if not runs:
            return
        run = choose(runs, tell, self.path)
        rows = connection.execute(f"SELECT step, timestamp, metrics FROM metrics WHERE {key} = ? ORDER BY id", (run,))
        for index, (step, time, written) in enumerate(rows):
            try:
                row = json.loads(written)
                if not isinstance(row, dict):
                    raise ValueError
            except (ValueError, TypeError, RecursionError):
                tell(f"row {index}: not a whole JSON object, left out.")
                continue
            reading = read_row({**row, "_step": step, "timestamp": time})
            if reading.values or reading.nulls:
                yield record_of(self.run, self.name, index, reading, {}, None)


FORMAT = Format(
    name="trackio", title="a database of trackio's", patterns=("*.db",), order=54,
    open=lambda place, run, name, _: TrackioDatabase(place, run, name), index="the row of the run",
    live=False, last_resort=True, vague=True,
)  # fmt: skip
