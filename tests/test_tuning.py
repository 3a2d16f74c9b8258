"""Tuning: what is put in is where it should be, the counts add up, and a suggestion is earned."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.config import Settings, resolve
from smart_monitor.engine import Engine
from smart_monitor.model import TICK, Record
from smart_monitor.registry import rule_classes
from smart_monitor.tuning import (
    APART,
    AWAY,
    BUDGET,
    CAP,
    DROPS,
    SPIKES,
    WINDOWS,
    Burst,
    Result,
    Run,
    Score,
    grid,
    inject,
    passes,
    places,
    suggest,
    take,
    toml,
    tune,
)


def records(count: int, *, noise: float = 0.02, accuracy: float | None = None, seed: int = 1) -> Iterator[Record]:
    source = random.Random(seed)
    for n in range(count):
        values = {"loss": source.gauss(0.7, 0.7 * noise)}
        if accuracy is not None:
            values["accuracy"] = accuracy * source.gauss(1, 0.01)
        yield Record("run", "s", n, n, values=values)


@pytest.fixture(scope="module")
def measured() -> tuple[list[Run], Result]:
    runs = [take("calm", records(450, accuracy=0.8)), take("loud", records(250, noise=0.15, seed=2))]
    return runs, tune(runs)


def test_of_a_long_run_the_beginning_is_taken_and_that_is_said():
    assert (5, True) == (len(take("r", records(9), cap=5).records), take("r", records(9), cap=5).cut)
    assert (9, False) == (len(take("r", records(9), cap=9).records), take("r", records(9), cap=9).cut)
    assert CAP >= 10_000


def test_ticks_are_left_out():
    lines = [*records(3), Record("run", "host", 2, kind=TICK), *records(2)]

    assert 5 == len(take("r", lines).records)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 600), st.sets(st.integers(0, 600), max_size=6), st.one_of(st.none(), st.floats(0.05, 0.99)), st.integers(0, 9)
)
def test_bursts_keep_away_from_alarms_and_from_one_another(count, alarms, accuracy, seed):
    run = take(f"run {seed}", records(count, accuracy=accuracy, seed=seed))
    bursts = places(run, alarms)

    assert bursts == places(run, alarms)
    for burst in bursts:
        assert all(abs(burst.start - alarm) >= AWAY for alarm in alarms)
        assert burst.length == len(burst.rows)
    for metric in ("loss", "accuracy"):
        starts = [b.start for b in bursts if b.metric == metric]
        assert all(b - a >= APART for a, b in pairwise(starts))
    changed = inject(run.records, bursts)
    touched = {n for b in bursts for n in b.rows}
    assert all(a is b for n, (a, b) in enumerate(zip(run.records, changed, strict=True)) if n not in touched)
    assert all(math.isfinite(v) and v > 0 for r in changed for v in r.values.values() if count)


def test_a_burst_multiplies_a_loss_and_takes_points_from_an_accuracy_in_its_own_scale():
    rows = [Record("r", "s", n, n, values={"loss": 2.0, "accuracy": a}) for n, a in enumerate((0.5, 0.75))]
    as_percent = [r._replace(values={"accuracy": r.values["accuracy"] * 100}) for r in rows]
    changed = inject(rows, [Burst("loss", 0, 1, 1.6, (0,)), Burst("accuracy", 1, 1, 12.0, (1,))])

    assert ({"loss": 3.2, "accuracy": 0.5}, {"loss": 2.0, "accuracy": 0.63}) == tuple(r.values for r in changed)
    assert 63.0 == inject(as_percent, [Burst("accuracy", 1, 1, 12.0, (1,))])[1].values["accuracy"]


def test_the_grid_holds_every_threshold_with_every_window_and_the_presets():
    choices = grid()

    assert {(w, s) for w in WINDOWS for s in SPIKES} <= {(c.window, c.spike) for c in choices if c.guard}
    assert {(w, d) for w in WINDOWS for d in DROPS} <= {(c.window, c.drop) for c in choices if c.guard}
    for preset in ("sensitive", "default", "quiet"):
        wanted, _ = resolve([("test", {"preset": preset})])
        for guard in (True, False):
            assert any((c.spike, c.guard, c.window) == (wanted.loss_spike_threshold, guard, 10) for c in choices)
            assert any((c.drop, c.guard, c.window) == (wanted.accuracy_drop_threshold, guard, 10) for c in choices)


def test_alarms_on_the_runs_as_they_are_are_those_of_replay(measured: tuple[list[Run], Result]):
    runs, result = measured
    told = [f for run in runs for f in Engine("r", Settings(), rule_classes()).replay(run.records)]

    assert sum(f.kind in ("loss_spike", "divergence") for f in told) == result.loss[10, 0.3, True].alarms
    assert sum(f.kind == "accuracy_drop" for f in told) == result.accuracy[10, 10.0, True].alarms


def test_in_a_calm_run_every_clear_burst_is_found_at_once(measured: tuple[list[Run], Result]):
    runs, _ = measured
    result = tune(runs[:1])
    loss, accuracy = result.loss[10, 0.3, True], result.accuracy[10, 10.0, True]

    assert (1.0, 1.0, 0) == (loss.clear_recall, accuracy.recall, loss.delay)
    assert 0 < result.places == loss.injected
    assert 0 < result.accuracy_places == accuracy.injected


def test_without_the_guard_a_loud_run_costs_alarms(measured: tuple[list[Run], Result]):
    _, result = measured

    assert result.loss[10, 0.1, False].alarms > 20 > result.loss[10, 0.1, True].alarms


def test_the_same_runs_give_the_same_answer_and_progress_adds_up(measured: tuple[list[Run], Result]):
    runs, result = measured
    judged: list[int] = []

    assert result == tune(runs, judged.append)
    assert passes(runs) == sum(judged)


def test_the_suggestion_is_a_file_of_settings_with_numbers_for_reasons(measured: tuple[list[Run], Result]):
    runs, result = measured
    suggestion = suggest(result)
    text = toml(result, suggestion, runs)
    chosen, _ = resolve([("suggested", tomllib.loads(text))])

    assert suggestion.choice.settings().loss_spike_threshold == chosen.loss_spike_threshold
    assert (suggestion.choice.window, True) == (chosen.loss_window, chosen.noise_guard)
    assert f"Finds {suggestion.loss.found} of {suggestion.loss.injected} spikes" in text
    assert all(line.startswith("#") for line in text.splitlines() if line and " = " not in line)


def made_up(loss: dict[float, tuple[int, int]]) -> Result:
    """A result in which the loss was measured as given (found of 100, alarms in 10 000), the accuracy not at all."""
    result = Result(10_000, 100, 0, {}, {})
    for window in WINDOWS:
        for spike in SPIKES:
            found, alarms = loss[spike]
            result.loss[window, spike, True] = Score(10_000, alarms, 100, found)
        for drop in DROPS:
            result.accuracy[window, drop, True] = Score(10_000)
    return result


def test_what_finds_more_at_a_bearable_cost_is_suggested():
    result = made_up({0.1: (99, 500), 0.2: (95, int(BUDGET * 10)), 0.3: (70, 2), 0.4: (60, 0), 0.5: (50, 0)})

    assert (0.2, 10.0, 10) == (suggest(result).choice.spike, suggest(result).choice.drop, suggest(result).choice.window)


def test_what_makes_no_difference_leaves_the_default():
    assert 0.3 == suggest(made_up(dict.fromkeys(SPIKES, (70, 3)))).choice.spike
    assert 0.3 == suggest(made_up({0.1: (71, 4), 0.2: (71, 4), 0.3: (70, 5), 0.4: (70, 3), 0.5: (69, 3)})).choice.spike


def test_where_every_choice_is_loud_the_least_loud_is_suggested():
    assert 0.5 == suggest(made_up({0.1: (99, 900), 0.2: (98, 800), 0.3: (97, 700), 0.4: (96, 600), 0.5: (95, 500)})).choice.spike


def test_what_finds_less_than_half_of_what_the_default_finds_is_not_suggested():
    loud = {0.1: (90, 90), 0.2: (80, 80), 0.3: (60, 40), 0.4: (20, 4), 0.5: (10, 0)}
    assert 0.3 == suggest(made_up(loud)).choice.spike


def test_a_run_too_short_to_put_anything_in_leaves_the_default_and_says_so():
    runs = [take("short", records(20))]
    result = tune(runs)

    assert (0.3, 10.0, 10) == (suggest(result).choice.spike, suggest(result).choice.drop, suggest(result).choice.window)
    assert "Nothing could be measured here" in toml(result, suggest(result), runs)
