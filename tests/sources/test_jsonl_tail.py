"""A last line without its newline: taken once, when the file rests and the line is whole by itself."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.config import Settings
from smart_monitor.following import RunSource
from smart_monitor.model import Record
from smart_monitor.sources import Cursor
from smart_monitor.sources.appended import QUIET
from smart_monitor.sources.jsonl import JsonLines, records
from tests.sources.test_jsonl import lines, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize("follows", ["", "\n", "\r\n", " \n", "\n\n"])
def test_a_last_line_without_newline_is_taken_once_when_the_file_rests(path: Path, follows: str) -> None:
    path.write_text(lines(1) + '{"step": 2, "loss": 3}')
    seen = read(path, {}, mono=100.0)
    assert [1] == [r.step for r in seen.records]
    assert [] == read(path, seen.cursor, mono=104.9).records
    rested = read(path, seen.cursor, mono=105.0)
    assert [(1, 2)] == [(r.index, r.step) for r in rested.records]
    assert rested.cursor == read(path, rested.cursor, mono=200.0).cursor
    with path.open("a") as file:
        file.write(follows)
    after = read(path, rested.cursor, mono=201.0)
    with path.open("a") as file:
        file.write(("" if follows else "\n") + '{"step": 3, "loss": 3}\n')
    last = read(path, after.cursor, mono=202.0)
    assert ([], [(2, 3)], 0) == (after.records, [(r.index, r.step) for r in last.records], after.odd + last.odd)
    assert [r._replace(seen=None) for r in (*seen.records, *rested.records, *last.records)] == list(records(path, "run"))


def test_a_last_line_that_was_left_long_ago_is_taken_at_the_first_look(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 3}')
    written = path.stat().st_mtime
    look = JsonLines(path, "run").read
    assert ([], [1]) == tuple([r.step for r in look({}, written + age, 1.0).records] for age in (QUIET - 1, QUIET))


def test_what_rests_waits_as_long_again_when_something_is_added(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 1}')
    cursor = read(path, {}, mono=100.0).cursor
    with path.open("a") as file:
        file.write('\n{"step": 2, "lo')
    seen = read(path, cursor, mono=104.0)
    torn = read(path, seen.cursor, mono=120.0)
    assert ([1], [], 0) == ([r.step for r in seen.records], torn.records, torn.odd)
    with path.open("a") as file:
        file.write('ss": 2}')
    seen = read(path, torn.cursor, mono=121.0)
    assert ([], [], [2]) == (
        seen.records, read(path, seen.cursor, mono=125.0).records, [r.step for r in read(path, seen.cursor, mono=126.0).records]
    )  # fmt: skip


def test_a_clock_that_began_anew_takes_what_waits(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 1}')
    assert [1] == [r.step for r in read(path, read(path, {}, mono=1e6).cursor, mono=3.0).records]


def test_what_follows_on_the_line_of_a_row_that_was_taken_is_no_row_and_said(path: Path) -> None:
    path.write_text('{"step": 1, "loss": 1}')
    cursor = read(path, read(path, {}, mono=1.0).cursor, mono=10.0).cursor
    with path.open("a") as file:
        file.write('{"step": 2, "loss": 2}')
    seen = read(path, cursor, mono=11.0)
    assert ([], ("row 0: more stands behind the object on its line, left out.",)) == (seen.records, seen.oddities)
    with path.open("a") as file:
        file.write("}\n" + lines(3))
    after = read(path, seen.cursor, mono=12.0)
    assert ([(1, 3)], 0) == ([(r.index, r.step) for r in after.records], after.odd)
    assert [0, 1] == [r.index for r in records(path, "run")]


def test_a_row_taken_before_its_newline_is_not_given_again_behind_a_crash(path: Path) -> None:
    path.write_text(lines(1) + '{"step": 2, "loss": 3}')
    before = read(path, {}).cursor  # what was saved; the journal holds the row that came behind it
    given = read(path, before, mono=10.0).records
    cursor = JsonLines(path, "run").resumed(before, given, len(given))
    waiting = read(path, cursor, mono=20.0)
    rested = read(path, waiting.cursor, mono=30.0)
    with path.open("a") as file:
        file.write("\n" + lines(3))
    assert ([2], [], []) == ([r.step for r in given], waiting.records, rested.records)
    for where in (cursor, waiting.cursor, rested.cursor):
        assert [(2, 3)] == [(r.index, r.step) for r in read(path, where, mono=31.0).records]


def test_in_a_run_that_is_followed_it_is_given_without_anything_stirring(path: Path) -> None:
    path.write_text(lines(1) + '{"step": 2, "loss": 3}')
    source, cursor, written = RunSource(path.parent, "run", Settings()), {}, path.stat().st_mtime
    given: list[tuple[float, int | None]] = []
    for look in range(20):
        seen = source.read(cursor, written + look / 2, 100.0 + look / 2)
        given += [(look / 2, r.step) for r in seen.records]
        cursor = seen.cursor
    assert [(0.0, 1), (QUIET, 2)] == given


OBJECT = st.builds(lambda step, loss: json.dumps({"step": step, "loss": loss}).encode(), st.integers(0, 99), st.floats())
TAIL = st.lists(st.one_of(OBJECT, st.sampled_from([b"\n", b"\n", b" ", b"\r\n", b"{", b"}", b"12", b"[]"])), max_size=16)


@settings(deadline=None, max_examples=100)
@given(TAIL, st.lists(st.tuples(st.integers(0, 600), st.floats(0, 9)), max_size=10), st.booleans())
def test_any_cutting_with_any_pauses_gives_the_rows_of_one_reading(
    parts: list[bytes], cuts: list[tuple[int, float]], newline: bool
) -> None:
    content = b"".join(parts) + (b"\n" if newline else b"")
    pauses = dict(cuts) | {len(content): 0.0}
    with tempfile.TemporaryDirectory() as directory:
        path, whole = Path(directory) / "m.jsonl", Path(directory) / "whole.jsonl"
        whole.write_bytes(content)
        path.touch()
        cursor: Cursor = {}
        found: list[Record] = []
        start, now = 0, 1.0
        for end in sorted({min(c, len(content)) for c in pauses}):
            with path.open("ab") as file:
                file.write(content[start:end])
            start = end
            for wait in (0.0, pauses.get(end, 0.0)):
                now += wait
                seen = read(path, cursor, mono=now)
                found += seen.records
                cursor = seen.cursor
        found += read(path, cursor, True, now).records
        rows_of = [repr((r.index, r.step, r.values, r.nulls)) for r in found]
        assert [repr((r.index, r.step, r.values, r.nulls)) for r in records(whole, "run")] == rows_of
