"""The baseline against a slow twin, and what it must never do."""

from __future__ import annotations

import json
import math
import random
import statistics
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.stats.baseline import (
    CALM,
    FLOOR,
    LEVEL_WINDOW,
    NEW_LEVEL,
    NOISE_WINDOW,
    STEPS_WINDOW,
    Baseline,
)
from smart_monitor.stats.shapes import LOSS_APART, SHAPES
from smart_monitor.stats.strictness import LATELY, LATELY_SHARE
from smart_monitor.stats.window import CAP, PARTS


def calm(count: int, level: float = 1.0, noise: float = 0.02, seed: int = 0) -> list[float]:
    source = random.Random(seed)
    return [level * source.gauss(1, noise) for _ in range(count)]


def fed(values: list[float], **how: object) -> Baseline:
    base = Baseline(**how)  # type: ignore[arg-type]
    for value in values:
        base.observe(value, flagged=False)
    return base


def quartiles(values: list[float]) -> float:
    """Upper minus lower quartile, by nearest rank; 0 below four values."""
    ordered = sorted(values)
    return ordered[3 * len(ordered) // 4] - ordered[len(ordered) // 4] if len(ordered) >= 4 else 0.0


@given(st.lists(st.floats(0.9, 1.1), min_size=2, max_size=300))
def test_level_mean_and_noise_are_what_the_slow_twin_says(values: list[float]) -> None:
    base = fed(values, guard=False)
    residuals = []
    for n in range(1, len(values)):
        level = statistics.median(values[max(0, n - LEVEL_WINDOW) : n])
        residuals.append(round(max(-CAP, min(CAP, (values[n] - level) / level)) * PARTS) / PARTS)
    residuals = residuals[-NOISE_WINDOW:]
    upper = math.sqrt(sum(r * r for r in residuals if r > 0) / (len(residuals) / 2))
    spread = max(quartiles(residuals) / 1.349, FLOOR)
    steps = [
        round((b - a) / statistics.median(values[max(0, n - LEVEL_WINDOW + 1) : n + 1]) * PARTS) / PARTS
        for n, (a, b) in enumerate(pairwise(values))
        if a != b
    ]
    assert statistics.median(values[-LEVEL_WINDOW:]) == base.level
    assert math.isclose(sum(values[-5:]) / len(values[-5:]), base.mean, rel_tol=1e-12)
    assert math.isclose(max(upper, spread), base.noise, rel_tol=1e-9)
    lately = quartiles(steps[-LATELY:]) if len(steps) >= LATELY else 0.0
    assert math.isclose(
        max(quartiles(steps[-STEPS_WINDOW:]) / 1.349, LATELY_SHARE * lately / 1.349, FLOOR), base.step_noise, rel_tol=1e-9
    )


@given(st.lists(st.one_of(st.floats(), st.floats(0.5, 2), st.just(0.0)), max_size=120), st.integers(0, 119))
def test_a_baseline_goes_on_from_its_state_as_if_nothing_had_been(values: list[float], cut: int) -> None:
    whole = fed(values)
    broken = Baseline()
    broken.restore(json.loads(json.dumps(fed(values[:cut]).state())))
    for value in values[cut:]:
        broken.observe(value, flagged=False)
    assert json.dumps(whole.state()) == json.dumps(broken.state())
    assert repr((whole.level, whole.noise, whole.mean, whole.mature)) == repr(
        (broken.level, broken.noise, broken.mean, broken.mature)
    )


def test_one_outlier_raises_the_noise_and_not_the_step_noise() -> None:
    base = fed([*calm(60), 5.0, *calm(20, seed=1)])
    assert base.noise > 0.1
    assert base.step_noise < 0.04


def test_a_level_that_lasts_is_believed_after_fifteen_values() -> None:
    base = fed([*calm(60), *calm(NEW_LEVEL - 1, 3.0, seed=1)])
    assert base.level < 1.1
    base.observe(3.0, flagged=False)
    assert 2.9 < base.level < 3.1


def test_non_finite_values_change_nothing() -> None:
    base = fed(calm(60))
    before = json.dumps(base.state())
    for value in (math.nan, math.inf, -math.inf):
        base.observe(value, flagged=True)
    assert before == json.dumps(base.state())


def test_the_next_attempt_starts_with_the_noise_and_without_the_level() -> None:
    heir = fed(calm(60)).successor()
    assert not heir.mature and heir.admitted == 0
    for value in (7.0, 7.1, 6.9):
        heir.observe(value, flagged=False)
    assert heir.mature and 6.9 <= heir.level <= 7.1 and heir.noise < 0.05


def test_a_repeated_value_says_nothing_of_how_far_chance_reaches() -> None:
    values = calm(60)

    assert fed([v for value in values for v in (value, value)]).step_noise > 0.9 * fed(values).step_noise


def test_the_fewer_steps_are_known_the_more_a_move_must_dwarf_them() -> None:
    two, seven = fed([1.0, 1.1, 1.0]), fed([1.0, 1.1] * 4)

    assert [two.stands_out(2.0), two.stands_out(2.3)] == [False, True]
    assert [seven.stands_out(1.4), seven.stands_out(1.5)] == [False, True]


def test_the_first_steep_steps_of_a_training_are_forgotten() -> None:
    early = fed([50.0, 3.0, 3.2, 3.0, 3.1, 3.0, 3.2])
    later = fed([50.0, 3.0, 3.2, 3.0, 3.1, 3.0, 3.2, 3.0, 3.1, 3.0, 3.2, 3.1])

    assert [early.stands_out(20.0), later.stands_out(20.0)] == [False, True]


def test_a_loss_whose_neighbours_differ_by_half_stands_out_later_alone_than_several_times_in_a_row() -> None:
    source = random.Random(3)
    values = [math.exp(source.gauss(0, 0.45)) for _ in range(300)]
    base = fed(values, apart=LOSS_APART)
    high = base.level * (1 + base.step_noise) ** (0.7 * LOSS_APART)

    assert [fed(values).stands_out(high), base.stands_out(high)] == [True, False]
    for _ in range(2):
        base.observe(high, flagged=False)
    assert base.stands_out(high)


def test_an_accuracy_of_tiny_batches_is_not_believed_at_once_and_its_collapse_is() -> None:
    source = random.Random(5)
    values = [100 * sum(source.random() < 0.75 for _ in range(8)) / 8 for _ in range(300)]
    base = fed(values, **SHAPES["accuracy"])

    assert not base.stands_out(12.5)
    for _ in range(3):
        base.observe(0.0, flagged=False)
    assert base.stands_out(0.0)


@given(
    st.lists(st.floats(0.25, 4.0), min_size=3, max_size=80), st.floats(1.0, 200.0), st.sampled_from([2.0**-40, 1024.0, 2.0**60])
)
def test_no_power_of_two_changes_what_stands_out(values: list[float], last: float, scale: float) -> None:
    plain, scaled = fed(values, apart=LOSS_APART), fed([v * scale for v in values], apart=LOSS_APART)

    assert plain.stands_out(last) == scaled.stands_out(last * scale)


def test_what_was_learned_is_lost_when_two_values_in_a_row_are_back_at_the_beginning() -> None:
    base = fed([4.0] * 5 + calm(40, 1.0))

    assert not base.lost(4.5)
    base.observe(4.5, flagged=True)
    assert [base.lost(4.5), base.lost(3.9)] == [True, False]


def test_the_beginning_is_that_of_the_first_attempt_where_a_later_one_began_lower() -> None:
    heir = fed([4.0] * 5 + calm(40, 1.0)).successor()
    for value in calm(20, 1.0):
        heir.observe(value, flagged=False)

    heir.observe(4.5, flagged=True)
    assert [heir.lost(4.5), heir.lost(1.5)] == [True, False]


@given(st.lists(st.floats(-1e3, 1e3), min_size=25, max_size=120), st.floats(-1e3, 1e3), st.sampled_from(["loss", *SHAPES]))
def test_a_calm_value_neither_stands_out_nor_is_four_noises_away(values: list[float], value: float, metric: str) -> None:
    base = fed(values, **SHAPES.get(metric, {}))
    near = base.level + value / 1e3 * abs(base.level) if base.admitted else value
    for one in (value, near):
        if base.is_calm(one):
            assert not base.stands_out(one)
            assert not base.score(one) >= CALM
