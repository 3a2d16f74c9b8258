"""trainer_state.json: cumulative histories, several checkpoints, resumptions, half-written files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Pass
from smart_monitor.sources.documents import TORN_FOR
from smart_monitor.sources.trainer_state import REMEMBERED, TrainerState
from tests.sources.cutting import ignored

Row = dict[str, Any]


def rows(start: int, end: int, flavour: float = 0.0) -> list[Row]:
    return [{"epoch": step / 100, "loss": 1 / step + flavour, "step": step} for step in range(start, end)]


def save(base: Path, name: str, history: list[Row], at: float, **more: Any) -> None:
    path = base / name / "trainer_state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"log_history": history, "global_step": 7, "max_steps": 500} | more))
    os.utime(path, (at, at))


def read(base: Path, cursor: Cursor, mono: float = 1.0) -> Pass:
    seen = TrainerState(base, "run").read(json.loads(json.dumps(cursor)), 1e9, mono)
    json.dumps(seen.cursor, allow_nan=False)
    return seen


def test_each_checkpoint_gives_only_the_rows_that_are_new(tmp_path: Path) -> None:
    found: list[Record] = []
    cursor: Cursor = {}
    for count in (10, 20, 30):
        save(tmp_path, f"checkpoint-{count}", rows(1, count + 1), 1e9 + count)
        seen = read(tmp_path, cursor)
        found, cursor = found + seen.records, seen.cursor
        assert [] == read(tmp_path, cursor).records
    shutil.rmtree(tmp_path / "checkpoint-10")
    save(tmp_path, ".", [*rows(1, 31), {"train_runtime": 5.0, "train_loss": 0.3, "step": 30}], 1e9 + 40)
    last = read(tmp_path, cursor)
    assert [(i, i + 1, 500) for i in range(30)] == [(r.index, r.step, r.total) for r in found]
    assert [{"train_runtime": 5.0}] == [r.values for r in last.records], "the mean over the run is no loss"


def test_evaluation_rows_are_records_of_their_own(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-2", [{"loss": 0.5, "step": 2}, {"eval_loss": 0.7, "eval_accuracy": 0.5, "step": 2}], 1e9)
    assert [{"loss": 0.5}, {"eval_loss": 0.7, "eval_accuracy": 0.5}] == [dict(r.values) for r in read(tmp_path, {}).records]


def test_the_newest_file_wins_and_a_history_that_was_cut_back_goes_on_from_there(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-500", rows(1, 51), 1e9)
    save(tmp_path, "checkpoint-900", rows(1, 91), 1e9 + 100)
    before = read(tmp_path, {})
    save(tmp_path, "checkpoint-600", rows(1, 51) + rows(51, 61, flavour=0.5), 1e9 + 200)
    after = read(tmp_path, before.cursor)
    save(tmp_path, "checkpoint-700", rows(1, 51) + rows(51, 71, flavour=0.5), 1e9 + 300)
    later = read(tmp_path, after.cursor)
    assert [90, 10, 10] == [len(s.records) for s in (before, after, later)]
    assert list(range(51, 71)) == [r.step for r in after.records + later.records]


def test_where_all_files_are_copies_of_one_age_the_longest_history_is_read(tmp_path: Path) -> None:
    for name, count, age in (("checkpoint-30", 30, 1), ("checkpoint-10", 10, 3), ("checkpoint-20", 20, 2)):
        save(tmp_path, name, rows(1, count + 1), 1e9 + age)
    assert list(range(1, 31)) == [r.step for r in TrainerState(tmp_path, "run").whole(ignored)]


def test_a_single_file_can_be_read(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-10", rows(1, 11), 1e9)
    save(tmp_path, "checkpoint-20", rows(1, 21), 1e9 + 1)
    assert 10 == len(list(TrainerState(tmp_path / "checkpoint-10" / "trainer_state.json", "run").whole(ignored)))


def test_a_half_written_file_is_looked_at_again_and_said_only_if_it_stays_so(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-10", rows(1, 11), 1e9)
    cursor = read(tmp_path, {}).cursor
    path = tmp_path / "checkpoint-20" / "trainer_state.json"
    path.parent.mkdir()
    path.write_text('{"log_history": [')
    torn = read(tmp_path, cursor)
    assert (True, True, []) == (torn.sight.ok, torn.torn, torn.records)
    late = read(tmp_path, torn.cursor, 1.0 + TORN_FOR)
    assert not late.sight.ok
    assert not read(tmp_path, late.cursor, 2.0 + TORN_FOR).sight.ok
    save(tmp_path, "checkpoint-20", rows(1, 21), 2e9)
    assert list(range(11, 21)) == [r.step for r in read(tmp_path, late.cursor, 3.0 + TORN_FOR).records]


def test_a_crash_after_some_rows_passes_over_them(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-10", rows(1, 11), 1e9)
    before = read(tmp_path, {})
    save(tmp_path, "checkpoint-20", rows(1, 21), 1e9 + 1)
    some = read(tmp_path, before.cursor).records[:4]
    resumed = TrainerState(tmp_path, "run").resumed(before.cursor, some[-1:], 4)
    assert [15, 16, 17, 18, 19, 20] == [r.step for r in read(tmp_path, resumed).records]


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint-1", rows(1, 3 * REMEMBERED), 1e9)
    first = read(tmp_path, {})
    save(tmp_path, "checkpoint-2", rows(1, 3 * REMEMBERED + 5), 1e9 + 1)
    second = read(tmp_path, first.cursor)
    assert 5 == len(second.records)
    assert 9 * REMEMBERED > len(json.dumps(second.cursor))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), min_size=1, max_size=6))
def test_every_row_of_any_sequence_of_resumptions_is_given_once(tmp_path_factory: Any, plan: list[tuple[int, int]]) -> None:
    base = tmp_path_factory.mktemp("run")
    history: list[Row] = []
    cursor: Cursor = {}
    expected: list[Row] = []
    found: list[Record] = []
    for number, (back, more) in enumerate(plan):
        history = history[: max(0, len(history) - back)]
        new = [{"step": len(history) + i, "loss": number + i / 100} for i in range(1, more + 1)]
        history, expected = history + new, expected + new
        save(base, f"checkpoint-{len(history)}", history, 1e9 + number)
        seen = read(base, cursor)
        found, cursor = found + seen.records, seen.cursor
    assert [(r["step"], r["loss"]) for r in expected] == [(r.step, r.values["loss"]) for r in found]
