"""A run's directory as one source: what is found is followed, each metric judged once, nothing twice or lost."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.discovery import Found, find
from smart_monitor.following import EAGER, GONE, OF_BEFORE, SILENT, RunSource
from smart_monitor.model import RECORD, Record
from tests.following import SOON, Follower, append, row, status, steps, told
from tests.sources.events import BEGINNING, logged


def test_an_empty_directory_is_a_sentence_and_what_appears_in_it_is_followed(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert [] == follower.look()
    assert not follower.seen.sight.ok
    assert "nothing that a trainer writes" in follower.seen.sight.why
    append(tmp_path / "metrics.jsonl", row(1))
    assert [("jsonl", 1, 0.5)] == told(follower.look())
    assert follower.seen.sight.ok
    status(tmp_path, 2, accuracy=60)
    assert [("status", 2, 60.0)] == told(follower.look(), "accuracy")


def test_a_directory_is_walked_again_for_what_is_new_in_it_and_not_for_a_file_that_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []
    monkeypatch.setattr("smart_monitor.following.find", lambda base, **how: walked.append(base) or find(base, **how))
    follower = Follower(tmp_path)
    follower.look()
    status(tmp_path, 1)
    assert [1] == steps(follower.look())  # training has begun: looked for what else there is, in what changed only
    begun = len(walked)
    for step in range(2, 20):
        status(tmp_path, step)
        assert [step] == steps(follower.look())
    assert (2, begun) == (begun, len(walked))
    append(tmp_path / "status" / "metrics.jsonl", row(30))
    assert [("jsonl", 30)] == [(r.source, r.step) for r in follower.look()]
    (tmp_path / "deep").mkdir()
    follower.look()
    append(tmp_path / "deep" / "t.csv", b"step,lr\n31,0.5\n")
    assert [31] == steps(follower.look(), "learning_rate")
    known = len(walked)
    follower.look()
    assert known == len(walked)


def test_the_search_at_the_first_record_does_not_make_those_after_it_come_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    moved_on = Found.moved_on
    monkeypatch.setattr(Found, "moved_on", lambda found: asked.append(None) or moved_on(found))
    source, cursor = RunSource(tmp_path, "run", Settings(poll_interval=10.0), rest=0.0), {}
    for look in range(20):  # half a second each
        if look >= 8:  # when it is looked for files anyway
            status(tmp_path, look)
        cursor = source.read(cursor, time.time(), 1000.0 + look / 2).cursor
    assert len(asked) <= 3, "while nothing was there every two seconds, at the first record, and then every ten"


def test_beside_a_file_that_says_nothing_yet_others_are_looked_for_as_often_as_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"global_step": 5, "log_history": []}')
    source = RunSource(tmp_path, "run", Settings(poll_interval=1e6), rest=0.0)
    cursor = source.read({}, time.time(), 1000.0).cursor
    append(tmp_path / "metrics.jsonl", row(1))
    first = source.read(cursor, time.time(), 1000.0 + EAGER)
    assert [1] == steps(first.records)
    append(tmp_path / "other.csv", b"step,eval_loss\n1,0.5\n")
    assert [] == source.read(first.cursor, time.time(), 1000.0 + 2 * EAGER).records  # training is seen: no haste any more


@pytest.mark.parametrize("torn", [b"s", b"step,lo", b"step,loss\n1,"])
def test_a_table_that_was_met_half_written_is_read_like_any_other(tmp_path: Path, torn: bytes) -> None:
    follower = Follower(tmp_path)
    append(tmp_path / "metrics.csv", torn)
    assert [] == follower.look()
    append(tmp_path / "metrics.csv", b"step,loss\n1,0.5\n2,0.4\n"[len(torn) :])
    assert [("csv", 1, 0.5), ("csv", 2, 0.4)] == told(follower.look(EAGER))


def test_the_files_of_a_new_version_take_the_place_of_the_old_ones_and_are_another_file_of_the_same_source(
    tmp_path: Path,
) -> None:
    follower = Follower(tmp_path)
    append(tmp_path / "version_0" / "metrics.csv", b"step,loss\n1,0.5\n2,0.4\n")
    first = follower.look()
    append(tmp_path / "version_1" / "metrics.csv", b"step,loss\n1,0.6\n")
    os.utime(tmp_path / "version_1" / "metrics.csv", (time.time() + 60,) * 2)
    second = follower.look()
    assert [("csv", 1, 0.5), ("csv", 2, 0.4)] == told(first)
    assert [("csv", 1, 0.6)] == told(second)
    assert first[0].ids != second[0].ids
    assert [] == follower.look()
    assert any("version_1/metrics.csv" in sentence for sentence in follower.news)


def test_two_formats_of_one_run_give_each_step_once(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    events = tmp_path / "runs" / "events.out.tfevents.1.h.1.0"
    append(events, BEGINNING)
    found: list[Record] = []
    for step in range(1, 40):
        append(tmp_path / "metrics.jsonl", row(step))
        status(tmp_path, step, accuracy=70)
        if step % 5 == 0:
            append(events, b"".join(logged(s, {"loss": 1 / (s + 1), "other": 1.0}, 1.7e9 + s) for s in range(step - 4, step + 1)))
        found += follower.look()
    found += follower.look(10.0)
    assert list(range(1, 40)) == steps(found)
    assert {"jsonl"} == {s for s, *_ in told(found)}
    assert list(range(1, 40)) == steps(found, "accuracy")
    assert {"tensorboard"} == {s for s, *_ in told(found, "other")}
    assert list(range(1, 36)) == steps(found, "other")


def test_a_history_that_comes_with_checkpoints_never_takes_the_loss_from_the_status_file(tmp_path: Path) -> None:
    run, rows, found = Follower(tmp_path), [], []
    for step in range(1, 31):
        rows.append({"step": step, "loss": 1 / step, "grad_norm": 1.0})
        if step % 10 == 0:  # the checkpoint is written before the status tells of its step
            place = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
            place.parent.mkdir()
            place.write_text(json.dumps({"global_step": step, "log_history": rows}))
            found += run.look()
        status(tmp_path, step, loss=1 / step)
        found += run.look()
    assert [("status", step, 1 / step) for step in range(1, 31)] == told(found)
    assert list(range(1, 31)) == steps(found, "grad_norm")


def test_history_of_several_sources_is_told_in_order_of_steps_however_long(tmp_path: Path) -> None:
    count = 30_000
    append(tmp_path / "metrics.jsonl", b"".join(row(s) for s in range(count)))
    history = [{"step": s, "eval_loss": 1.0 + s} for s in range(0, count, 1000)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    found = Follower(tmp_path).look()
    assert list(range(count)) == steps(found)
    assert list(range(0, count, 1000)) == steps(found, "eval_loss")
    assert [r.step for r in found] == sorted(r.step or 0 for r in found)


def test_a_source_that_is_deleted_leaves_its_metrics_to_others_behind_its_last_step(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    log = tmp_path / "metrics.jsonl"
    append(log, row(1) + row(2))
    status(tmp_path, 2)
    assert [1, 2] == steps(follower.look())
    log.unlink()
    status(tmp_path, 3)
    assert [] == steps(follower.look())
    follower.look(GONE + 1)
    status(tmp_path, 4)
    assert [("status", 4, 0.5)] == told(follower.look())
    append(log, row(4) + row(5))
    assert 5 in steps(follower.look())
    assert any("can't be seen" in sentence for sentence in follower.news)


def test_a_file_that_never_said_anything_is_no_sight_once_the_one_that_did_is_gone(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 5, "log_history": []}')
    follower.look()
    assert follower.seen.sight.ok
    status(tmp_path, 6)
    assert [6] == steps(follower.look())
    (tmp_path / "status" / "training_status.json").unlink()
    follower.look()
    assert (False, True) == (follower.seen.sight.ok, "There is no training_status.json" in follower.seen.sight.why)
    status(tmp_path, 7)
    assert [7] == steps(follower.look())
    assert follower.seen.sight.ok


def test_a_source_that_falls_silent_does_not_keep_its_metrics_from_one_that_goes_on(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    append(tmp_path / "metrics.jsonl", row(500))
    status(tmp_path, 500)
    follower.look()
    status(tmp_path, 510)
    assert [] == steps(follower.look())
    status(tmp_path, 520)
    assert [520] == steps(follower.look(SILENT + 1))
    append(tmp_path / "metrics.jsonl", row(530))
    assert [530] == steps(follower.look())
    status(tmp_path, 3)  # a new run, which writes nothing but this
    assert [3] == steps(follower.look(OF_BEFORE + 1))


def test_a_log_of_an_earlier_start_is_trusted_last(tmp_path: Path) -> None:
    append(tmp_path / "old.jsonl", row(1) + row(2))
    os.utime(tmp_path / "old.jsonl", (time.time() - OF_BEFORE - 60,) * 2)
    append(tmp_path / "metrics.csv", b"step,loss\n1,0.5\n2,0.4\n")
    assert {"csv"} == {s for s, *_ in told(Follower(tmp_path).look())}


def test_a_run_moved_away_and_back_is_not_read_twice(tmp_path: Path) -> None:
    base = tmp_path / "run"
    follower = Follower(base)
    append(base / "metrics.jsonl", row(1) + row(2))
    follower.look()
    base.rename(tmp_path / "away")
    assert [] == follower.look()
    assert not follower.seen.sight.ok
    (tmp_path / "away").rename(base)
    append(base / "metrics.jsonl", row(3))
    assert [3] == steps(follower.look())


def test_one_source_can_be_asked_for(tmp_path: Path) -> None:
    append(tmp_path / "metrics.jsonl", row(1))
    append(tmp_path / "more.dat", row(2))
    status(tmp_path, 3)
    for name, expected in (("status", [3]), ("jsonl", [1]), ("metrics.jsonl", [1]), ("more.dat", [2]), ("csv", [])):
        assert expected == steps(Follower(tmp_path, source=name).look())


def test_patterns_of_the_user_hold_for_text_logs(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("hello\nT 5 L=0.25\n")
    assert [("text", 5, 0.25)] == told(Follower(tmp_path, log_patterns=(r"T (?P<step>\d+) L=(?P<loss>\S+)",)).look())


def test_ranks_in_names_are_the_ranks_of_the_records_each_from_a_source_of_its_own(tmp_path: Path) -> None:
    for rank in range(3):
        append(tmp_path / f"metrics_rank_{rank}.jsonl", row(1) + row(2))
    found = Follower(tmp_path).look()
    assert {(f"jsonl rank {rank}", rank) for rank in range(3)} == {(r.source, r.rank) for r in found}
    assert 6 == len(steps(found))


def test_a_quiet_run_gives_the_same_cursor_and_no_news(tmp_path: Path) -> None:
    append(tmp_path / "metrics.jsonl", row(1))
    follower = Follower(tmp_path)
    follower.look()
    cursor, news = follower.cursor, list(follower.news)
    for _ in range(5):
        assert [] == follower.look()
    assert 0 == follower.unmoved  # it was time to search again
    for _ in range(5):
        assert [] == follower.look(SOON)
    assert 5 == follower.unmoved
    assert cursor is follower.cursor
    assert news == follower.news
    append(tmp_path / "metrics.jsonl", row(2))
    assert [2] == steps(follower.look(SOON))
    status(tmp_path, 3)
    follower.look(SOON)
    assert 5 == follower.unmoved


def test_how_much_was_seen_is_counted(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    for step in (1, 2, 5, 9):
        status(tmp_path, step)
        follower.look()
    (known,) = follower.source.summary
    assert ("status", 4, 9, 9) == (known["name"], known["records"], known["steps"], known["last_step"])


def test_a_status_that_was_judged_before_a_crash_is_not_judged_again(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    append(tmp_path / "m.jsonl", row(1))
    follower.look()
    kept = follower.cursor
    status(tmp_path, 1, accuracy=70)
    (judged,) = follower.look()
    assert ("status", {"accuracy": 70.0}) == (judged.source, judged.values)
    follower.cursor = kept
    follower.start()
    follower.cursor = follower.source.taken_up(kept, {"status": {RECORD: judged}}, {"status": {"": 1}})
    assert [] == follower.look()
    status(tmp_path, 2, accuracy=71)
    assert [71.0] == [v for *_, v in told(follower.look(), "accuracy")]


@pytest.mark.parametrize("gone", [False, True])
def test_reading_writes_nothing_and_never_raises(tmp_path: Path, gone: bool) -> None:
    append(tmp_path / "a" / "metrics.jsonl", row(1) + b"\xff{{\n[]\n")
    append(tmp_path / "b.csv", b"\0\0\0")
    follower = Follower(tmp_path)
    follower.look()
    before = sorted(p for p in tmp_path.rglob("*"))
    if gone:
        shutil.rmtree(tmp_path / "a")
        before = sorted(p for p in tmp_path.rglob("*"))
    follower.look()
    assert before == sorted(p for p in tmp_path.rglob("*"))
    assert all(r.kind == RECORD for r in follower.look())
