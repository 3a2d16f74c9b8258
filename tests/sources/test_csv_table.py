"""Tables: headers that change, files written again, empty cells, other delimiters."""

from __future__ import annotations

import csv
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import Record
from smart_monitor.sources.csv_table import PATIENCE, CsvTable
from tests.sources.cutting import at_once, ignored, in_pieces, read_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def source(path: Path) -> CsvTable:
    return CsvTable(path, "run")


def said(records: list[Record]) -> list[tuple[int | None, dict[str, float]]]:
    return [(r.step, dict(r.values)) for r in records]


def write(path: Path, header: list[str], rows: list[dict[str, object]], how: str = "w") -> None:
    with path.open(how, newline="") as file:
        writer = csv.DictWriter(file, header)
        if how == "w":
            writer.writeheader()
        writer.writerows(rows)


def test_rows_of_training_and_evaluation_stay_apart_and_an_empty_cell_is_not_given(path: Path) -> None:
    path.write_text("epoch,step,train_loss,val_loss\n0,49,0.7,\n0,49,,0.8\n0,99,nan,\n")
    first, second, third = read_all(source(path), {})[0]
    assert (49, {"loss": 0.7}, ()) == (first.step, first.values, first.nulls)
    assert {"eval_loss": 0.8} == second.values
    assert math.isnan(third.values["loss"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_quotes_marks_and_line_ends_of_all_sorts_are_read(path: Path, delimiter: str) -> None:
    rows = ["\ufeffstep", '"train loss"', "lr"], ["1", '"0.5"', "1e-3"], ["2", "0.4", "1e-3"]
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode() + b"\r\n")
    assert [(1, {"loss": 0.5, "learning_rate": 1e-3}), (2, {"loss": 0.4, "learning_rate": 1e-3})] == said(
        read_all(source(path), {})[0]
    )


def test_a_file_written_again_with_more_columns_goes_on_where_it_was(path: Path) -> None:
    write(path, ["step", "loss"], [{"step": i, "loss": i / 10} for i in range(1, 6)])
    before, cursor = read_all(source(path), {})
    rows: list[dict[str, object]] = [{"step": i, "loss": i / 10} for i in range(1, 6)] + [{"step": 6, "val_loss": 0.9}]
    write(path, ["loss", "step", "val_loss"], rows)
    after, cursor = read_all(source(path), cursor)
    assert [(6, {"eval_loss": 0.9})] == said(after)
    assert 5 == after[0].index
    assert before[0].ids == after[0].ids, "a longer header is no new attempt"
    write(path, ["loss", "step", "val_loss"], [{"step": 7, "loss": 0.7}], "a")
    assert [(7, {"loss": 0.7})] == said(read_all(source(path), cursor)[0])


def test_caught_in_the_middle_of_being_written_again_it_waits(path: Path) -> None:
    write(path, ["step", "loss"], [{"step": i, "loss": i / 10} for i in range(1, 6)])
    _, cursor = read_all(source(path), {})
    write(path, ["step", "loss", "val_loss"], [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}])
    some, cursor = read_all(source(path), cursor, mono=100.0)
    some += read_all(source(path), cursor, mono=100.0 + PATIENCE / 2)[0]
    assert [] == some
    write(path, ["step", "loss", "val_loss"], [{"step": i, "loss": i / 10} for i in range(3, 8)], "a")
    assert [6, 7] == [r.step for r in read_all(source(path), cursor, mono=101.0)[0]]


def test_a_shorter_table_that_stays_so_is_another(path: Path) -> None:
    write(path, ["step", "loss"], [{"step": i, "loss": i / 10} for i in range(1, 6)])
    before, cursor = read_all(source(path), {})
    write(path, ["step", "loss"], [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}])
    some, cursor = read_all(source(path), cursor, mono=100.0)
    later, cursor = read_all(source(path), cursor, mono=100.0)
    assert [] == some + later
    after, _ = read_all(source(path), cursor, mono=100.0 + PATIENCE)
    assert [1, 2] == [r.step for r in after]
    assert before[0].ids != after[0].ids


@pytest.mark.parametrize("same_first_row", [False, True])
def test_other_rows_under_the_same_name_are_another_table(path: Path, same_first_row: bool) -> None:
    write(path, ["step", "loss"], [{"step": i, "loss": i / 10} for i in range(1, 6)])
    before, cursor = read_all(source(path), {})
    rows: list[dict[str, object]] = [{"step": i, "loss": 9 if i > 1 or not same_first_row else 0.1} for i in range(1, 9)]
    write(path, ["step", "loss", "x"], rows)
    after, _ = read_all(source(path), cursor)
    assert list(range(1, 9)) == [r.step for r in after]
    assert list(range(8)) == [r.index for r in after]
    assert before[0].ids != after[0].ids


def test_a_header_in_the_middle_names_columns_anew(path: Path) -> None:
    path.write_text("epoch,loss\n0,0.5\n1,0.4\nepoch,accuracy,loss\n0,0.9,0.6\n")
    found = read_all(source(path), {})[0]
    assert [(0, {"loss": 0.5}), (1, {"loss": 0.4}), (0, {"accuracy": 0.9, "loss": 0.6})] == said(found)


def test_rows_of_another_width_are_left_out_and_said(path: Path) -> None:
    path.write_text("step,loss\n1,0.5\n2,0.4,7\n3\n4,0.3\n")
    seen = source(path).read({}, 1e9, 1.0)
    assert [(0, 1), (3, 4)] == [(r.index, r.step) for r in seen.records]
    assert ("row 1: 3 cells under 2 names, left out.", "row 2: 1 cells under 2 names, left out.") == seen.oddities


def test_numbers_without_a_header_are_said(path: Path) -> None:
    path.write_text("1,0.5\n" * 30)
    seen = source(path).read({}, 1e9, 1.0)
    assert ("its first line is no header: columns without names cannot be used.",) == seen.oddities
    assert not seen.sight.ok


ROW = st.one_of(
    st.tuples(st.integers(0, 99), st.sampled_from(["0.5", "", "nan", "x", '"0,1"'])).map(lambda t: f"{t[0]},{t[1]}".encode()),
    st.sampled_from([b"", b"step,loss", b"loss,step,lr", b"1,2,3", b",", b'"', b"\xff,1", b"\xef\xbb\xbf"]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=14), st.lists(st.integers(0, 200), max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_any_cutting_into_appends_gives_the_records_of_one_reading(rows: list[bytes], cuts: list[int], end: bytes) -> None:
    content = end.join([b"step,loss", *rows])
    with tempfile.TemporaryDirectory() as directory:
        path, other = Path(directory) / "a" / "m.csv", Path(directory) / "b" / "m.csv"
        whole = at_once(lambda: source(other), other, content)
        assert repr(whole) == repr(in_pieces(lambda: source(path), path, content, cuts))
        assert repr([r._replace(seen=None) for r in whole]) == repr(list(source(other).whole(ignored)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["loss", "val_loss", "acc", "lr", "x"]), min_size=1, max_size=20), st.data())
def test_a_logger_that_adds_columns_as_they_come_gives_each_row_once(names: list[str], data: st.DataObject) -> None:
    """Lightning's way: appended while the columns stay, all of it written again when one is new."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "m.csv"
        rows: list[dict[str, object]] = []
        header = ["step"]
        found: list[Record] = []
        cursor: dict[str, object] = {}
        for step, name in enumerate(names):
            rows.append({"step": step, name: step / 7})
            if name in header and path.exists():
                write(path, header, rows[-1:], "a")
            else:
                header = sorted({*header, name})
                write(path, header, rows)
            if data.draw(st.booleans()):
                some, cursor = read_all(source(path), cursor)
                found += some
        found += read_all(source(path), cursor, final=True)[0]
        assert list(range(len(names))) == [r.step for r in found] == [r.index for r in found]
        assert 1 == len({r.ids["file"] for r in found})
