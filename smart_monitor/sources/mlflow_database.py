"""MLflow's SQLite store (`mlflow.db`), for replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smart_monitor.model import Record
from smart_monitor.names import clean, read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.databases import Database, choose, columns
from smart_monitor.sources.files import CannotSee, shown

if TYPE_CHECKING:
    import sqlite3

_LARGEST = 1.7976931348623157e308
"""MLflow's databases have no infinity and hold this in its place."""


class MlflowDatabase(Database):
    """The newest run of one store."""

    def __init__(self, path: Path, run: str, name: str = "") -> None:
        super().__init__(path, run, name or path.name)

    def rows(self, connection: sqlite3.Connection, tell: Callable[[str], None]) -> Iterator[Record]:
        if not {"key", "value", "timestamp", "run_uuid", "step", "is_nan"} <= columns(connection, "metrics"):
            raise CannotSee(f"{shown(str(self.path))} is no store of MLflow's: it has no table of metrics.")
        names = "(SELECT name FROM runs WHERE runs.run_uuid = m.run_uuid)" if "name" in columns(connection, "runs") else "NULL"
        runs = connection.execute(
            f"SELECT run_uuid, {names} FROM metrics AS m GROUP BY run_uuid ORDER BY MAX(timestamp) DESC"
        ).fetchall()
        if not runs:
            return
        run = choose(runs, tell, self.path)
        row: dict[str, object] = {}
        index, at = 0, None
        query = "SELECT step, timestamp, key, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp, step, rowid"
        for step, time, key, value, is_nan in connection.execute(query, (run,)):
            if at is not None and (step != at or key in row):
                yield from self._record(index, row)
                index, row = index + 1, {}
            at = step
            number = float("nan") if is_nan else float("inf") * (1 if value > 0 else -1) if abs(value) >= _LARGEST else value
            row |= {clean(key): number, "current_step": step, "timestamp": time}
        if row:
            yield from self._record(index, row)

    def _record(self, index: int, row: dict[str, object]) -> Iterator[Record]:
        reading = read_row(row)
        if reading.values or reading.nulls:
            yield record_of(self.run, self.name, index, reading, {}, None)


FORMAT = Format(
    name="mlflow_db", title="a database of MLflow's", patterns=("*.db", "*.sqlite", "*.sqlite3"), order=52,
    open=lambda place, run, name, _: MlflowDatabase(place, run, name), index="the joined step, in order of time",
    live=False, last_resort=True, vague=True,
)  # fmt: skip
