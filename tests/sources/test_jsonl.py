"""Append-only metrics: rows, torn tails, other files in the place of this one."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Pass
from smart_monitor.sources.appended import CHUNK, FOREIGN_AFTER, MAX_PASS
from smart_monitor.sources.files import CannotSee
from smart_monitor.sources.jsonl import MAX_LINE, JsonLines, records, rows
from tests.waiting import PATIENCE


def read(path: Path, cursor: Cursor, final: bool = False, mono: float = 1.0) -> Pass:
    """One look, at a time before the file was written; the cursor goes through JSON, as in a restart."""
    seen = JsonLines(path, "run").read(cursor, 1e9, mono, final)
    seen.cursor = json.loads(json.dumps(seen.cursor, allow_nan=False))
    return seen


def read_all(path: Path, cursor: Cursor | None = None, final: bool = False) -> tuple[list[Record], Cursor]:
    found: list[Record] = []
    cursor = cursor or {}
    while True:
        seen = read(path, cursor, final)
        found += seen.records
        cursor = seen.cursor
        if seen.retry_in is None:
            return found, cursor


def lines(*steps: int, loss: float = 0.5) -> str:
    return "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step in steps)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_each_row_becomes_a_record_with_its_own_index(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 2.5, "lr": 0.1}\n\n   \n{"step": 2, "loss": NaN}\r\n')
    first, second = read(path, {}).records
    assert ("run", "metrics.jsonl", 0, 1, {"loss": 2.5, "learning_rate": 0.1}, 1e9) == (*first[:4], first.values, first.seen)
    assert (1, 2, True) == (second.index, second.step, math.isnan(second.values["loss"]))


def test_a_nan_as_print_writes_it_is_read_though_it_is_no_json(path: Path) -> None:
    path.write_text(
        '{"step": 1, "loss": nan}\n{"step": 2, "loss":-inf , "lr": 0.1}\n{"step": 3, "loss": +Infinity}\n'
        '{"step": 4, "losses": [nan, 1], "loss": -NAN}\n'
    )
    seen = read(path, {})
    assert (1, 2, 3, 4) == tuple(r.step for r in seen.records)
    first, second, third, last = (r.values["loss"] for r in seen.records)
    assert math.isnan(first)
    assert math.isnan(last)
    assert (-math.inf, math.inf) == (second, third)
    assert 0.1 == seen.records[1].values["learning_rate"]
    assert 0 == seen.odd


def test_rows_that_cannot_be_used_keep_their_index_and_are_said(path: Path) -> None:
    bad = [
        "{",
        "[1, 2]",
        "3",
        '{"loss": 1} {"loss": 2}',
        "[" * 100_000,
        '{"loss": ' + "9" * 5000 + "}",
        "\0" * 50,
        '{"note": "no metric"}',
    ]
    path.write_text("\n".join(bad) + "\n" + lines(7) + '{"step": -5, "loss": 1}\n')
    seen = read(path, {})
    assert [(3, None), (8, 7), (9, None)] == [(r.index, r.step) for r in seen.records]
    assert "row 3: more stands behind the object on its line, left out." == seen.oddities[3]
    assert 8 == seen.odd == len(seen.oddities)
    assert ("row 0: not a whole JSON object, left out.", "row 1: no JSON object, left out.") == seen.oddities[:2]
    assert "row 9: step -5 is not usable" == seen.oddities[-1]


def test_oddities_are_bounded_and_counted(path: Path) -> None:
    path.write_text("broken\n" * 5000)
    seen = read(path, {})
    assert (5000, 8) == (seen.odd, len(seen.oddities))


def test_bytes_that_are_not_utf8_do_not_cost_the_numbers_beside_them(path: Path) -> None:
    path.write_bytes(b'\xef\xbb\xbf{"step": 1, "loss": 1}\n{"name": "M\xfcller", "step": 2, "loss": 2}\n\xff\xfe\n')
    assert [1, 2] == [r.step for r in read(path, {}).records]


def test_a_torn_tail_waits_for_its_newline_unless_reading_is_final(path: Path) -> None:
    path.write_text(lines(1) + '{"step": 2, "lo')
    seen = read(path, {})
    assert ([1], 0, None) == ([r.step for r in seen.records], seen.odd, seen.retry_in)
    with path.open("a") as file:
        file.write('ss": 3}')
    waiting = read(path, seen.cursor)
    assert ([], False) == (waiting.records, waiting.heartbeat)
    assert [2] == [r.step for r in read(path, waiting.cursor, final=True).records]
    assert [1, 2] == [r.step for r in records(path, "run")]
    with path.open("a") as file:
        file.write("\n" + lines(3))
    assert [(1, 2), (2, 3)] == [(r.index, r.step) for r in read(path, waiting.cursor).records]


def test_an_unchanged_file_says_nothing(path: Path) -> None:
    path.write_text(lines(1, 2))
    cursor = read(path, {}).cursor
    seen = read(path, cursor)
    assert ([], False, True, cursor) == (seen.records, seen.heartbeat, seen.sight.ok, seen.cursor)
    assert [] == read(path, cursor, final=True).records


@pytest.mark.parametrize("how", ["truncated", "regrown", "regrown behind the same first line", "replaced"])
def test_another_file_in_its_place_is_read_from_the_beginning(path: Path, how: str) -> None:
    path.write_text(lines(*range(100)))
    before = read(path, {})
    if how == "truncated":
        path.write_text(lines(0, 1))  # the same first line in the same inode
    elif how == "regrown":
        path.write_text(lines(*range(300), loss=0.7))
    elif how == "regrown behind the same first line":
        path.write_text(lines(0, *range(500, 900)))
    else:
        path.with_suffix(".new").write_text(lines(*range(200, 500)))
        path.with_suffix(".new").replace(path)
    after = read(path, before.cursor)
    assert 0 == after.records[0].index
    assert before.records[0].ids["file"] != after.records[0].ids["file"]
    assert 1 == len({r.ids["file"] for r in after.records})
    assert after.oddities == (f"{path} was truncated or replaced and is read from its beginning.",)
    assert [] == read(path, after.cursor).records


@pytest.mark.parametrize("how", ["renamed", "copied and truncated"])
def test_what_a_rotated_file_still_held_is_read_before_the_new_one(path: Path, how: str) -> None:
    path.write_text(lines(*range(50)))
    before = read(path, {})
    with path.open("a") as file:
        file.write(lines(*range(50, 20_000)) + '{"step": 20000, "loss": 1}')
    old = path.with_name("metrics.jsonl.1")
    if how == "renamed":
        path.rename(old)
    else:
        old.write_bytes(path.read_bytes())
    path.with_name("metrics.jsonl.2").write_text(lines(7, 8))
    path.write_text(lines(20_001, 20_002))
    after, cursor = read_all(path, before.cursor)
    assert list(range(50, 20_003)) == [r.step for r in after]
    assert list(range(50, 20_003)) == [r.index for r in after]
    assert {before.records[0].ids["file"]} == {r.ids["file"] for r in after}, "rotation is no new attempt"
    assert [] == read(path, cursor).records
    old.unlink()
    with path.open("a") as file:
        file.write(lines(20_003))
    assert [20_003] == [r.step for r in read(path, cursor).records]


def test_a_writer_that_replaces_the_whole_file_at_every_row_gives_each_row_once(path: Path) -> None:
    cursor: Cursor = {}
    found: list[Record] = []
    for count in range(1, 40):
        path.with_suffix(".new").write_text(lines(*range(count)))
        path.with_suffix(".new").replace(path)
        seen = read(path, cursor)
        found += seen.records
        cursor = seen.cursor
    assert list(range(39)) == [r.step for r in found]
    assert 1 == len({r.ids["file"] for r in found})


def test_a_file_that_vanishes_and_comes_back_whole_goes_on(path: Path) -> None:
    path.write_text(lines(1, 2))
    cursor = read(path, {}).cursor
    path.rename(path.with_suffix(".away"))
    gone = read(path, cursor)
    assert (False, f"{path} does not exist.", cursor) == (gone.sight.ok, gone.sight.why, gone.cursor)
    path.with_suffix(".away").rename(path)
    with path.open("a") as file:
        file.write(lines(3))
    assert [3] == [r.step for r in read(path, gone.cursor).records]


def test_a_line_beyond_sixteen_mebibytes_is_left_out_and_keeps_its_index(path: Path) -> None:
    with path.open("w") as file:
        file.write(lines(1) + '{"step": 2, "loss": 1, "pad": "')
        file.flush()
        cursor = read(path, {}).cursor
        file.write("x" * (MAX_LINE + CHUNK))
        file.flush()
        odd = 0
        for _ in range(3):
            seen = read(path, cursor)
            odd += seen.odd
            cursor = seen.cursor
        file.write('"}\n' + lines(3))
    found, _ = read_all(path, cursor)
    assert (1, [(2, 3)]) == (odd, [(r.index, r.step) for r in found])
    assert [(0, 1), (2, 3)] == [(r.index, r.step) for r in records(path, "run")]


def test_a_line_too_long_is_left_out_also_when_it_comes_all_at_once(path: Path) -> None:
    path.write_text('{"loss": 1, "pad": "' + "x" * MAX_LINE + '"}\n' + lines(1))
    assert [(1, 1)] == [(r.index, r.step) for r in read_all(path)[0]]


def test_one_pass_is_bounded_and_asks_for_the_next(path: Path) -> None:
    path.write_text(lines(*range(40_000)))
    seen = read(path, {})
    assert 0.0 == seen.retry_in
    assert seen.cursor["offset"] < MAX_PASS + 2 * CHUNK
    assert list(range(40_000)) == [r.step for r in read_all(path)[0]]


def test_a_file_without_any_training_in_it_says_so(path: Path) -> None:
    path.write_text('{"event": "started", "level": 3}\n' * FOREIGN_AFTER)
    seen = read(path, {})
    assert (False, f"{path} does not look like training metrics: no row has step or loss.") == (seen.sight.ok, seen.sight.why)
    assert not read(path, seen.cursor).sight.ok
    with path.open("a") as file:
        file.write(lines(1))
    assert read(path, seen.cursor).sight.ok


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_no_file_is_a_sentence_live_and_in_replay(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    why = read(path, {}).sight.why
    assert why.startswith(str(path))
    with pytest.raises(CannotSee, match=r"metrics\.jsonl"):
        next(records(path, "run"))
    with pytest.raises(CannotSee, match=r"metrics\.jsonl"):
        next(rows(path))


def test_replay_reads_what_live_reading_reads(path: Path) -> None:
    path.write_text("junk\n" + lines(*range(5000)) + '{"step": 1, "loss": null, "pid": 4}')
    live = [r._replace(seen=None) for r in read_all(path, final=True)[0]]
    assert live == list(records(path, "run"))
    assert ("loss",) == live[-1].nulls
    assert {"file", "pid"} == set(live[-1].ids)
    assert [r.index for r in live] == [index for index, _ in rows(path)]


GROW = """
import json, os, sys, time
with open(sys.argv[1], "a", buffering=1) as file:
    for step in range(2000):
        text = json.dumps({"step": step, "loss": 1.0}) + "\\n"
        file.write(text[:9]); file.flush(); file.write(text[9:])
"""


def test_beside_a_real_writer_every_row_is_seen_once_and_in_order(path: Path) -> None:
    path.touch()
    writer = subprocess.Popen([sys.executable, "-c", GROW, str(path)])
    cursor: Cursor = {}
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE
    while writer.poll() is None and time.monotonic() < deadline:
        seen = read(path, cursor)
        found += seen.records
        cursor = seen.cursor
        time.sleep(0.002)
    assert 0 == writer.wait(PATIENCE)
    found += read_all(path, cursor)[0]
    assert list(range(2000)) == [r.step for r in found]
    assert list(range(2000)) == [r.index for r in found]


ROW = st.one_of(
    st.builds(lambda step, loss: json.dumps({"step": step, "loss": loss}).encode(), st.integers(), st.floats()),
    st.sampled_from(
        [b"", b"  ", b"{", b"[]", b"\xff", b'{"step": 1}', b'{"lr": "1e-3", "n\xc3\xbc": 1}', b"\r", b"\xef\xbb\xbf"]
    ),
    st.binary(max_size=8),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=12), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_any_cutting_into_appends_gives_the_records_of_one_reading(parts: list[bytes], cuts: list[int], newline: bool) -> None:
    content = b"\n".join(parts) + (b"\n" if newline else b"")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "m.jsonl"
        whole, pieces = Path(directory) / "whole" / "m.jsonl", sorted({min(c, len(content)) for c in cuts} | {0, len(content)})
        whole.parent.mkdir()
        whole.write_bytes(content)
        path.touch()
        cursor: Cursor = {}
        found: list[Record] = []
        for start, end in pairwise(pieces):
            with path.open("ab") as file:
                file.write(content[start:end])
            some, cursor = read_all(path, cursor)
            found += some
        found += read_all(path, cursor, final=True)[0]
        assert repr(read_all(whole, final=True)[0]) == repr(found)
        assert repr([r._replace(seen=None) for r in found]) == repr(list(records(whole, "run")))
