"""Which checkpoint is the evidence, which the last good one, which the best: over nouns alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.model import Checkpoint, FileStamp
from smart_monitor.snapshots.choose import Lineage, Moment, Option, begun, distance, is_before, last_good, latest, nearest
from smart_monitor.snapshots.job import Choice, rollback

FIRST = Lineage(None, None)


def at(step: int | None, completed: float | None = None, *, calm: bool = True, proven: bool = False) -> Option:
    when = float(step or 0) if completed is None else completed
    stamp = FileStamp("w", 1, 1, 1, int(when * 1e9))
    name = f"checkpoint-{step}" if step is not None else "last"
    return Option(Checkpoint(name, f"/x/{name}", step, "hf_trainer", "m", when, (stamp,)), calm, proven)


def test_the_last_good_one_is_the_newest_proven_one_from_before_the_onset() -> None:
    options = [at(100, proven=True), at(200, proven=True), at(300), at(400, calm=False), at(500)]
    assert options[1] == last_good(options, FIRST, Moment(450, None))
    assert options[0] == last_good(options, FIRST, Moment(200, None))


def test_without_a_proven_one_it_is_the_newest_that_was_completed_in_calm() -> None:
    options = [at(100), at(200), at(300, calm=False), at(500)]
    assert options[1] == last_good(options, FIRST, Moment(450, None))
    assert last_good(options[2:], FIRST, Moment(450, None)) is None
    assert last_good(options, FIRST, Moment(100, None)) is None


def test_what_the_attempt_was_resumed_from_belongs_to_it_and_other_checkpoints_of_before_do_not() -> None:
    resumed = Lineage(since=1000.0, first=210)
    options = [at(100, 100.0, proven=True), at(200, 200.0), at(900, 900.0, proven=True), at(300, 1300.0)]
    assert options[0] == last_good(options, resumed, Moment(350, None))
    assert options[3] == last_good(options[1:], resumed, Moment(350, None))
    assert options[1] == last_good(options[1:], resumed, Moment(250, None))
    assert options[3] == latest(options, resumed.since)


def test_an_attempt_that_began_by_a_clock_that_ran_ahead_has_the_newest_step_of_all() -> None:
    options = [at(100, 90_100.0), at(200, 90_200.0), at(300, 1300.0)]
    assert options[1] == latest(options, begun(90_000.0, 90_250.0))
    assert options[2] == latest(options, begun(90_000.0, 1400.0))
    assert (None, 1000.0, 1000.0) == (begun(None, 5.0), begun(1000.0, 5000.0), begun(1000.0, 990.0))


def test_without_steps_the_time_of_completion_is_held_against_the_record() -> None:
    options = [at(None, 10.0), at(None, 20.0), at(None, 30.0)]
    assert options[1] == last_good(options, FIRST, Moment(700, 25.0))
    assert last_good(options, FIRST, Moment(700, None)) is None
    assert options[1] == nearest(options, FIRST, Moment(None, 21.0))
    assert (None, True, False) == tuple(is_before(options[1].checkpoint, Moment(5, t)) for t in (None, 21.0, 20.0))


def test_the_nearest_to_the_best_step_of_two_as_near_the_later() -> None:
    options = [at(100), at(200), at(300), at(None, 999.0)]
    assert options[1] == nearest(options, FIRST, Moment(240, None))
    assert options[2] == nearest(options, FIRST, Moment(250, None))
    assert options[0] == nearest(options, FIRST, Moment(3, None))
    assert nearest([], FIRST, Moment(3, None)) is None
    assert options[3] == nearest(options[3:], FIRST, Moment(3, None))
    assert distance(options[3].checkpoint, Moment(3, None)) is None


steps = st.one_of(st.none(), st.integers(0, 20))
options = st.lists(st.builds(at, steps, st.floats(0, 100), calm=st.booleans(), proven=st.booleans()), max_size=8)


@given(options, steps, st.one_of(st.none(), st.floats(0, 100)), st.one_of(st.none(), st.floats(0, 100)), steps)
def test_the_last_good_one_is_never_from_after_the_onset_nor_from_another_run(
    found: list[Option], step: int | None, time: float | None, since: float | None, first: int | None
) -> None:
    onset, lineage = Moment(step, time), Lineage(since, first)
    good = last_good(found, lineage, onset)
    eligible = [o for o in found if is_before(o.checkpoint, onset) and lineage.holds(o.checkpoint) and (o.calm or o.proven)]
    assert (good is None) == (not eligible)
    if good is not None:
        assert good in eligible
        assert good.proven or not any(o.proven for o in eligible)


@pytest.mark.parametrize(
    ("newest", "good", "resume", "suspect", "words"),
    [
        (500, 500, "checkpoint-500", [501, 600], "Resume from checkpoint-500 (step 500); look at steps 501–600."),
        (500, 300, "checkpoint-500", [501, 600], "Resume from checkpoint-500 (step 500); look at steps 501–600."),
        (
            595, 500, "checkpoint-500", [501, 600],
            (
                "checkpoint-595 was saved at or after the onset (step 590): resume from checkpoint-500 (step 500) in last_good/; "
                "look at steps 501–600."
            ),
        ),
        (
            590, None, None, [590, 600],
            "checkpoint-590 was saved at or after the onset (step 590): resume from an earlier one; look at steps 590–600.",
        ),
        (None, None, None, [590, 600], "No checkpoint could be kept; look at steps 590–600."),
    ],
)  # fmt: skip
def test_the_rollback_names_the_newest_from_before_the_onset_or_else_the_last_good_one(
    newest: int | None, good: int | None, resume: str | None, suspect: list[int], words: str
) -> None:
    choice = Choice(
        checkpoint=None if newest is None else at(newest).checkpoint, last_good=None if good is None else at(good).checkpoint
    )
    told = rollback({"step": 600, "onset_step": 590, "reason": "nan"}, choice)
    assert {"resume_from": resume, "suspect_steps": suspect, "text": words} == told


@pytest.mark.parametrize(
    ("tainted", "resume", "words"),
    [
        (False, "checkpoint-600", "Resume from checkpoint-600 (step 600); look at epochs 6–7."),
        (
            True, "checkpoint-500",
            (
                "checkpoint-600 was saved at or after the onset: resume from checkpoint-500 (step 500) in last_good/; "
                "look at epochs 6–7."
            ),
        ),
        (
            None, "checkpoint-500",
            "The steps of the run are not known: resume from checkpoint-500 (step 500) in last_good/; look at epochs 6–7.",
        ),
    ],
)  # fmt: skip
def test_where_records_count_epochs_these_are_not_held_against_the_steps_of_checkpoints(
    tainted: bool | None, resume: str, words: str
) -> None:
    choice = Choice(checkpoint=at(600).checkpoint, last_good=at(500).checkpoint, tainted=tainted)
    told = rollback({"step": 7, "onset_step": 6, "by": "epoch", "reason": "nan"}, choice)
    assert {"resume_from": resume, "suspect_steps": None, "text": words} == told
