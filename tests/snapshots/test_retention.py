"""The plan of retention: which rule keeps or drops what, and what holds whatever is planned."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.config import Settings, resolve
from smart_monitor.snapshots.listing import Best, Snapshot, Stored
from smart_monitor.snapshots.retention import Plan, plan, storage
from tests.snapshots.made import DAY, NOW, noun

GUIDE = Settings()
FEW = dataclasses.replace(GUIDE, keep_last=1)


def rules(found: Plan) -> dict[str, str]:
    return {v.name: f"{'keep' if v.keep else 'drop'}: {v.rule}" for v in found.verdicts}


def test_by_default_thirty_days_the_last_three_of_each_reason_and_every_best_are_kept() -> None:
    spikes = [noun(f"spike-{days}", days, "loss_spike") for days in (1, 20, 40, 50, 29)]
    known = [
        *spikes,
        *(noun(f"old-{n}", 100 + n, "nan") for n in range(5)),
        noun("best", 900, "best_model"),
        noun("now", 0, "stall"),
    ]
    assert {
        "spike-1": "keep: loss_spike 1 of the last 3", "spike-20": "keep: loss_spike 2 of the last 3",
        "spike-29": "keep: loss_spike 3 of the last 3",
        "spike-40": "drop: older than 30 days and not among the last 3 of loss_spike",
        "spike-50": "drop: older than 30 days and not among the last 3 of loss_spike",
        "old-0": "keep: nan 1 of the last 3", "old-1": "keep: nan 2 of the last 3", "old-2": "keep: nan 3 of the last 3",
        "old-3": "drop: older than 30 days and not among the last 3 of nan",
        "old-4": "drop: older than 30 days and not among the last 3 of nan",
        "best": "keep: current best", "now": "keep: newest verified",
    } == rules(plan(known, GUIDE, NOW))  # fmt: skip


def test_within_its_days_nothing_goes_however_many_there_are() -> None:
    found = plan([noun(str(days), days, "nan") for days in range(30)], FEW, NOW)
    assert () == found.drops
    assert "keep: within 30 days" == rules(found)["29"]


def test_the_guide_s_seven_days_for_loss_spikes_only() -> None:
    settings, _ = resolve([("file", {"keep_days_for": ["loss_spike=7"], "keep_last": 0})])
    known = [noun("s", 8, "loss_spike"), noun("n", 8, "nan"), noun("now")]
    assert {"s": "drop: older than 7 days", "n": "keep: within 30 days", "now": "keep: newest verified"} == rules(
        plan(known, settings, NOW)
    )


def test_a_snapshot_of_two_reasons_is_kept_if_either_keeps_it() -> None:
    settings = dataclasses.replace(FEW, keep_days_for=("loss_spike=7",))
    both = dataclasses.replace(noun("both", 8), kinds=("loss_spike", "nan"))
    known = [both, noun("s", 1, "loss_spike"), noun("n", 1, "nan"), noun("now", 0, "stall")]
    assert "keep: within 30 days" == rules(plan(known, settings, NOW))["both"]
    assert "keep: nan 1 of the last 1" == rules(plan([known[0], known[1], known[3]], settings, NOW))["both"]


def test_zero_days_are_no_limit_of_age() -> None:
    settings, _ = resolve([("file", {"keep": "everything"})])
    assert () == plan([noun(str(n), 1000 + n) for n in range(9)], settings, NOW).drops


def test_of_best_models_a_count_can_be_set_and_the_best_value_stays_whatever_its_age() -> None:
    settings = dataclasses.replace(GUIDE, keep_bests=2)
    values = {"a": 0.9, "b": 0.2, "c": 0.7, "d": 0.6, "e": 0.5}  # b: of an attempt that was begun anew afterwards
    known = [noun(n, 500 - i, "best_model", best=Best("loss", v)) for i, (n, v) in enumerate(values.items())]
    found = rules(plan([*known, noun("now")], settings, NOW))
    assert {n: found[n] for n in values} == {
        "a": "drop: not among the last 2 best models", "b": "keep: current best", "c": "drop: not among the last 2 best models",
        "d": "keep: best model 2 of 2", "e": "keep: current best",
    }  # fmt: skip


def test_a_best_accuracy_is_the_highest() -> None:
    settings = dataclasses.replace(GUIDE, keep_bests=1)
    known = [noun(str(v), 9 - i, "best_model", best=Best("eval_accuracy", v)) for i, v in enumerate((50.0, 90.0, 60.0))]
    assert ["50.0"] == [v.name for v in plan([*known, noun("now")], settings, NOW).drops]


def test_a_best_without_its_weights_does_not_stand_in_for_one_with_them() -> None:
    settings = dataclasses.replace(GUIDE, keep_bests=1)
    known = [noun("whole", 9, "best_model"), noun("empty", 8, "best_model", weights=False), noun("now")]
    assert "keep: current best" == rules(plan(known, settings, NOW))["whole"]


def test_what_was_touched_or_is_known_to_be_bad_is_not_the_newest_verified() -> None:
    known = [noun("old", 90), noun("new", 80, touched=True)]
    none = dataclasses.replace(GUIDE, keep_last=0)
    assert "keep: newest verified" == rules(plan(known, none, NOW))["old"]
    assert "keep: newest verified" == rules(plan(known, none, NOW, sound={"new"}))["new"]
    words_only = [noun("old", 90), noun("new", 80, weights=False)]
    assert "keep: newest verified" == rules(plan(words_only, none, NOW))["old"]


def test_what_is_pinned_or_promised_stays() -> None:
    known = [noun("pin", 400), noun("promise", 400), noun("neither", 400), noun("now")]
    found = rules(plan(known, dataclasses.replace(GUIDE, keep_last=1), NOW, pinned={"pin"}, promised={"promise"}))
    assert "keep: pinned" == found["pin"]
    assert "keep: its promise is still open" == found["promise"]
    assert found["neither"].startswith("drop: older than 30 days")


def test_a_limit_on_bytes_takes_what_only_its_age_keeps_first_and_the_oldest_of_it() -> None:
    settings = dataclasses.replace(FEW, keep_total_gb=4)
    known = [
        noun("last-nan", 25, "nan"),
        *(noun(f"spike-{d}", d, "loss_spike") for d in (9, 8, 7, 0)),
        noun("best", 200, "best_model"),
    ]
    found = plan(known, settings, NOW)
    assert ["spike-9", "spike-8"] == [v.name for v in found.drops]
    assert {"more than 4 GiB in total"} == {v.rule for v in found.drops}
    assert (6 * 2**30, 4 * 2**30) == (found.before, found.after)
    tight = plan(known, dataclasses.replace(settings, keep_total_gb=1), NOW)
    assert {"best", "spike-0"} == {v.name for v in tight.verdicts if v.keep}
    assert ("", "the limit of 1 GiB is exceeded by 1.0 GiB of best models and what else never goes") == (found.unmet, tight.unmet)


def test_shared_storage_counts_once() -> None:
    shared = (Stored(1, 7, 2**30),)
    known = [noun(str(n), n, files=shared) for n in range(9)] + [noun("other", 10)]
    assert 2 * 2**30 == storage(known)
    assert () == plan(known, dataclasses.replace(FEW, keep_total_gb=2), NOW).drops
    assert ["other"] == [v.name for v in plan(known, dataclasses.replace(FEW, keep_total_gb=1), NOW).drops]


def test_a_snapshot_from_the_future_stays_and_takes_nobody_s_place() -> None:
    known = [noun("real", 40), noun("older", 41)]
    ahead = [noun(f"ahead-{n}", -400 - n) for n in range(4)]
    found = rules(plan([*known, *ahead], FEW, NOW))
    assert "keep: its time lies in the future" == found["ahead-0"]
    assert rules(plan(known, FEW, NOW)) == {n: found[n] for n in ("real", "older")}


# ------------------------------------------------------------------------------------------ invariants

_DAYS = st.floats(-50, 400, allow_nan=False).map(lambda d: round(d, 2))
_KINDS = st.sampled_from(("best_model", "loss_spike", "nan", "manual"))


@st.composite
def shelves(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots of any age and kind; some share storage, some were touched, some hold no weights."""
    return [
        noun(
            f"s{n}", draw(_DAYS), kind := draw(_KINDS), touched=draw(st.booleans()), weights=draw(st.booleans()),
            files=tuple(Stored(1, draw(st.integers(0, 9)), 2**29) for _ in range(draw(st.integers(0, 3)))),
            best=Best("loss", draw(st.floats(0, 9))) if kind == "best_model" else None,
        )
        for n in range(draw(st.integers(0, 12)))
    ]  # fmt: skip


_SETTINGS = st.builds(
    Settings, keep_days=st.sampled_from((0.0, 7.0, 30.0)), keep_last=st.integers(0, 3), keep_bests=st.integers(0, 3),
    keep_total_gb=st.sampled_from((0.0, 0.5, 1.0, 3.0)), keep_days_for=st.sampled_from(((), ("loss_spike=7",), ("nan=0",))),
)  # fmt: skip
_NAMES = st.frozensets(st.integers(0, 11).map(lambda n: f"s{n}"), max_size=3)


def kept(found: Plan) -> set[str]:
    return {v.name for v in found.verdicts if v.keep}


def untouchable(known: Collection[Snapshot], pinned: Collection[str]) -> set[str]:
    """Said anew, in other words than the plan's."""
    there = [s for s in known if s.time <= NOW + 60] or list(known)
    bests = [s for s in there if "best_model" in s.kinds]
    bests = [s for s in bests if s.weights] or bests
    whole = [s for s in there if not s.touched]
    whole = [s for s in whole if s.weights] or whole
    newest = [max(group, key=lambda s: (s.time, s.name)).name for group in (bests, whole) if group]
    return {*newest, *(s.name for s in known if s.name in pinned)}


@given(shelves(), _SETTINGS, _NAMES)
def test_the_untouchable_never_go(known: list[Snapshot], settings: Settings, pinned: frozenset[str]) -> None:
    found = plan(known, settings, NOW, pinned=pinned)
    assert untouchable(known, pinned) <= kept(found)
    bests = [s.best.value for s in known if s.best and s.weights and s.time <= NOW + 60]
    if bests:
        assert any(s.best and s.best.value == min(bests) and s.name in kept(found) for s in known)
    assert (found.before, found.after) == (storage(known), storage(s for s in known if s.name in kept(found)))


@given(shelves(), _SETTINGS, _NAMES)
def test_planning_again_on_what_is_kept_drops_nothing_more(
    known: list[Snapshot], settings: Settings, pinned: frozenset[str]
) -> None:
    left = [s for s in known if s.name in kept(plan(known, settings, NOW, pinned=pinned))]
    assert () == plan(left, settings, NOW, pinned=pinned).drops


@given(shelves(), _SETTINGS, _NAMES, st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_found_does_not_matter(
    known: list[Snapshot], settings: Settings, pinned: frozenset[str], chance: random.Random
) -> None:
    mixed = chance.sample(known, len(known))
    assert plan(known, settings, NOW, pinned=pinned) == plan(mixed, settings, NOW, pinned=pinned)


@given(shelves(), _SETTINGS, _NAMES, _KINDS)
def test_a_newer_snapshot_never_takes_a_pinned_one_away(
    known: list[Snapshot], settings: Settings, pinned: frozenset[str], kind: str
) -> None:
    found = plan([*known, noun("new", 0, kind)], settings, NOW, pinned=pinned)
    assert {s.name for s in known} & pinned <= kept(found)


@given(shelves(), _SETTINGS, st.floats(0, 3000))
def test_a_clock_set_back_drops_nothing_by_age_that_the_right_clock_keeps(
    known: list[Snapshot], settings: Settings, days: float
) -> None:
    settings = dataclasses.replace(settings, keep_total_gb=0.0, keep_bests=0)
    right, back = plan(known, settings, NOW), plan(known, settings, NOW - days * DAY)
    assert kept(right) <= kept(back)


@given(shelves(), _SETTINGS, _KINDS)
def test_one_from_the_future_changes_nobody_else_s_verdict_by_age(known: list[Snapshot], settings: Settings, kind: str) -> None:
    settings = dataclasses.replace(settings, keep_total_gb=0.0)
    present = [s for s in known if s.time <= NOW]
    if present:
        with_it = {v.name: v for v in plan([*present, noun("ahead", -99, kind)], settings, NOW).verdicts}
        assert with_it.pop("ahead").keep
        assert {v.name: v for v in plan(present, settings, NOW).verdicts} == with_it


@pytest.mark.parametrize("pairs", [["loss_spike"], ["loss_spike=x"], ["=7"], ["nan=-1"], ["nan=inf"], ["nan=nan"]])
def test_days_that_can_not_be_read_are_refused(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match="keep_days_for must name reasons and days"):
        resolve([("file", {"keep_days_for": pairs})])
