"""MLflow's files and databases, trackio's database: rows joined, the newest run, and the trainer never held up."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from smart_monitor.model import Record
from smart_monitor.sources import Source
from smart_monitor.sources.files import CannotSee
from smart_monitor.sources.mlflow_database import MlflowDatabase
from smart_monitor.sources.mlflow_files import MlflowFiles
from smart_monitor.sources.trackio_database import TrackioDatabase
from tests.sources import stores
from tests.sources.cutting import ignored, read_all


def metric(base: Path, name: str, *values: tuple[int, float, int]) -> None:
    path = base / "metrics" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{time} {value} {step}\n" for time, value, step in values)


def said(records: list[Record]) -> list[tuple[int, int | None, dict[str, float]]]:
    return [(r.index, r.step, dict(r.values)) for r in records]


def test_the_metrics_of_a_step_are_joined_across_their_files(tmp_path: Path) -> None:
    for step in range(3):
        metric(tmp_path, "loss", (1_700_000_000_000 + step, step / 8, step))
        metric(tmp_path, "train/acc", (1_700_000_000_000 + step, 0.5, step))
    found, cursor = read_all(MlflowFiles(tmp_path, "run"), {})
    assert [(i, i, {"loss": i / 8, "accuracy": 0.5}) for i in range(3)] == said(found)
    metric(tmp_path, "loss", (1_700_000_000_003, math.nan, 3))
    assert [] == read_all(MlflowFiles(tmp_path, "run"), cursor)[0], "the other metric of the step is still to come"
    metric(tmp_path, "train/acc", (1_700_000_000_003, 0.5, 3))
    (last,), cursor = read_all(MlflowFiles(tmp_path, "run"), cursor)
    assert (3, True, 1_700_000_000.003) == (last.step, math.isnan(last.values["loss"]), last.time)


def test_metrics_logged_within_one_millisecond_are_joined_by_step(tmp_path: Path) -> None:
    for step in range(5):
        for name in ("a", "loss"):
            metric(tmp_path, name, (1_700_000_000_000, step / 8, step))
    found = list(MlflowFiles(tmp_path, "run").whole(ignored))
    assert [(i, i, {"a": i / 8, "loss": i / 8}) for i in range(5)] == said(found)


def test_many_values_of_several_metrics_stay_together(tmp_path: Path) -> None:
    for name in ("loss", "lr", "grad_norm"):
        metric(tmp_path, name, *((1_700_000_000_000 + i, i / 8, i) for i in range(10_000)))
    found = list(MlflowFiles(tmp_path, "run").whole(ignored))
    assert 10_000 == len(found)
    assert all(3 == len(r.values) for r in found)


def test_lines_of_other_forms_are_said(tmp_path: Path) -> None:
    metric(tmp_path, "loss", (1_700_000_000_000, 0.5, 1))
    with (tmp_path / "metrics" / "loss").open("a") as file:
        file.write("what is this\n1700000000001 0.25 2 data 12ab\n")
    seen = MlflowFiles(tmp_path, "run").read({}, 1e9, 1.0, final=True)
    assert [1, 2] == [r.step for r in seen.records]
    assert ('loss: the line before byte 33 is not "time value step", left out.',) == seen.oddities


def database(path: Path, kind: str) -> sqlite3.Connection:
    return stores.opened(path, stores.MLFLOW if kind == "mlflow" else stores.TRACKIO)


KINDS = pytest.mark.parametrize("kind", ["mlflow", "trackio"])


def source(path: Path, kind: str) -> Source:
    return MlflowDatabase(path, "run") if kind == "mlflow" else TrackioDatabase(path, "run")


@KINDS
def test_a_database_gives_the_rows_of_its_newest_run_and_names_the_others(tmp_path: Path, kind: str) -> None:
    add = stores.mlflow if kind == "mlflow" else stores.trackio
    connection = database(tmp_path / "m.db", kind)
    for step in range(3):
        add(connection, step, {"loss": 9.0}, "old")
    for step in range(10, 14):
        add(connection, step, {"loss": math.nan if step == 12 else step / 8, "lr": math.inf}, "new")
    told: list[str] = []
    found = list(source(tmp_path / "m.db", kind).whole(told.append))
    connection.close()
    assert [(0, 10), (1, 11), (2, 12), (3, 13)] == [(r.index, r.step) for r in found]
    assert (1.25, math.inf, True) == (
        found[0].values["loss"],
        found[0].values["learning_rate"],
        math.isnan(found[2].values["loss"]),
    )
    assert ["holds 2 runs; the newest is read, run new. Others: run old" in t for t in told] == [True]


@KINDS
def test_a_trainer_in_the_middle_of_a_transaction_is_not_held_up_and_does_not_hold_us_up(tmp_path: Path, kind: str) -> None:
    add = stores.mlflow if kind == "mlflow" else stores.trackio
    connection = database(tmp_path / "m.db", kind)
    add(connection, 1, {"loss": 0.5})
    connection.execute("BEGIN EXCLUSIVE")
    add(connection, 2, {"loss": 0.25})
    rows = source(tmp_path / "m.db", kind).whole(ignored)
    first = next(rows)
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert [(1, {"loss": 0.5})] == [(r.step, r.values) for r in [first, *rows]]
    connection.close()


@KINDS
def test_a_database_of_something_else_and_bytes_that_are_none_are_sentences(tmp_path: Path, kind: str) -> None:
    sqlite3.connect(tmp_path / "m.db").executescript("CREATE VIEW metrics AS SELECT 1 AS key; CREATE TABLE t (x)").close()
    with pytest.raises(CannotSee, match=r"is no store of"):
        list(source(tmp_path / "m.db", kind).whole(ignored))
    (tmp_path / "n.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(CannotSee, match="cannot be read as a database"):
        list(source(tmp_path / "n.db", kind).whole(ignored))
    with pytest.raises(CannotSee, match="does not exist"):
        list(source(tmp_path / "o.db", kind).whole(ignored))
