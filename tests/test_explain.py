"""Explanations: they agree with what replay says, never raise, and leave no trace in what they explain."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.config import Settings, resolve
from smart_monitor.engine import Engine
from smart_monitor.explain import MOST, Explanation, NoSuchStep, Seen, explain, explanation_json, text
from smart_monitor.model import TICK, Finding, Record, to_json
from smart_monitor.registry import rule_classes
from smart_monitor.rules import Moment, Rule, Verdict


def run_of(losses: Iterable[float], **more: float) -> list[Record]:
    return [Record("r", "s", n, n * 10, values={"loss": loss, **more}) for n, loss in enumerate(losses)]


def seen_at(records: list[Record], step: int, options: Settings | None = None) -> list[Seen]:
    told = explain("r", records, options or Settings(), rule_classes(), step)
    return [seen for _, _, seen in told if seen is not None]


def about(seen: Seen, rule: str, metric: str = "loss") -> Explanation:
    return next(e for e in seen.explanations if (e.rule, e.metric) == (rule, metric))


def calm(count: int, noise: float = 0.01) -> list[float]:
    source = random.Random(7)
    return [source.gauss(0.74, 0.74 * noise) for _ in range(count)]


def test_a_spike_is_explained_with_the_numbers_that_fired():
    records = run_of([*calm(40), 1.5])
    [seen] = seen_at(records, 400)
    spike = about(seen, "loss_spike")

    assert ("fired", 1.5, 40, "") == (spike.said, spike.value, spike.values, spike.warming_up)
    assert spike.mean is not None and spike.threshold == pytest.approx(1.3 * spike.mean)
    assert "open: snapshot here" == spike.gate
    assert [o.reason for o in seen.outputs if isinstance(o, Finding)] == [spike.reason]


def test_a_value_that_only_the_noise_guard_kept_silent_is_called_guarded():
    [seen] = seen_at(run_of([*calm(40, noise=0.2), 1.2]), 400)
    spike = about(seen, "loss_spike")

    assert "guarded" == spike.said
    assert spike.value is not None and spike.threshold is not None and spike.speaks_from is not None
    assert spike.threshold < spike.value < spike.speaks_from


def test_the_value_a_rule_speaks_from_is_the_one_at_which_it_speaks():
    before = calm(40)
    [seen] = seen_at(run_of([*before, 0.74]), 400)
    limit = about(seen, "loss_spike").speaks_from
    assert limit is not None

    for value, said in ((limit, "fired"), (math.nextafter(limit, 0), "silent")):
        [again] = seen_at(run_of([*before, value]), 400)
        assert said == about(again, "loss_spike").said.replace("guarded", "silent")


def test_a_silent_divergence_says_what_it_compares_though_no_one_value_would_make_it_speak():
    records = run_of([*calm(60), *[1.0] * 30])
    young, settled = about(seen_at(records, 50)[0], "divergence"), seen_at(records, 890)[0]

    found = about(settled, "divergence")
    assert ("silent", None) == (found.said, found.speaks_from)
    assert found.level is not None and found.threshold is not None and 0.9 < found.threshold < found.level
    assert f"level {found.level:.4g} against {found.threshold:.4g}, 25% above its best" in found.compares
    assert "0 of the last 9 steps rose, 8 needed; they rose by 0.0% in all, 10.0% needed" in found.compares
    assert f"  divergence compares: {found.compares}" in text(settled)
    assert (0.8, "5 of the 9 values a window needs") == (young.threshold, young.compares)
    assert "" == about(settled, "loss_spike").compares


def test_what_was_told_before_is_held_and_its_gate_says_why():
    seen = seen_at(run_of([*calm(40), 1.5, 1.6]), 410)[0]

    assert "held" == about(seen, "loss_spike").said
    assert "closed: 10 of 500 steps since the last loss_spike snapshot" == about(seen, "loss_spike").gate


def test_a_young_baseline_says_how_many_values_it_has():
    [seen] = seen_at(run_of(calm(6)), 50)

    assert "5 of 20 values" == about(seen, "loss_spike").warming_up
    assert any("warming up: loss (5 of 20 values)" in line for line in text(seen))


def test_rules_whose_metrics_are_not_given_are_named():
    [seen] = seen_at(run_of(calm(6)), 50)

    assert ("accuracy", "eval_accuracy") == seen.not_asked["accuracy_drop"]
    assert any("accuracy_drop (accuracy, eval_accuracy)" in line for line in text(seen))


def test_an_unknown_step_names_the_nearest():
    with pytest.raises(NoSuchStep, match="no record of step 44 in r; the nearest are 40 and 50"):
        seen_at(run_of(calm(10)), 44)
    with pytest.raises(NoSuchStep, match="the nearest is 90"):
        seen_at(run_of(calm(10)), 1000)
    with pytest.raises(NoSuchStep, match="no record has a step"):
        seen_at([], 0)


def test_where_a_run_names_no_steps_its_rows_are_counted():
    for by in ("step", "row"):
        [seen] = seen_at([r._replace(step=None, by=by) for r in run_of(calm(10))], 4)

        assert (4, "row 4: record 4 of r, attempt 1") == (seen.record.index, next(text(seen)))


def test_a_counter_that_stands_still_is_not_explained_for_ever():
    records = [r._replace(step=5) for r in run_of(calm(MOST + 10))]

    assert MOST == len(seen_at(records, 5))


def test_a_tick_is_explained_only_by_the_rules_that_spoke():
    records = [r._replace(seen=1e9 + r.index) for r in run_of(calm(30))]
    ticks = [Record("r", "host", 29, seen=1e9 + 29 + after, kind=TICK) for after in (1, 4000)]
    row, late = seen_at([*records, *ticks], 290)

    assert ("record", "tick") == (row.record.kind, late.record.kind)
    assert [("stall", "fired")] == [(e.rule, e.said) for e in late.explanations]


class Fragile(Rule):
    """Fails whenever it is asked."""

    metrics = ("loss",)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        raise ZeroDivisionError("broken on purpose")


def test_a_rule_that_fails_is_said_to_fail():
    rules = rule_classes() | {"fragile": type("F", (Fragile,), {"kind": "fragile"})}
    [seen] = [s for _, _, s in explain("r", run_of(calm(5)), Settings(), rules, 40) if s is not None]

    assert ("failed", "ZeroDivisionError: broken on purpose") == (about(seen, "fragile").said, about(seen, "fragile").message)


ODD = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e308, -1e308, 5e-324]), st.floats(0, 4))
ROW = st.fixed_dictionaries({"loss": ODD}, optional={"accuracy": ODD, "eval_loss": ODD, "grad_norm": ODD})
OPTIONS = st.sampled_from([{}, {"noise_guard": False}, {"preset": "sensitive", "loss_window": 4}])


@settings(max_examples=25, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8), st.integers(0, 45), OPTIONS, st.data())
def test_an_explanation_never_raises_and_agrees_with_replay(rows, quiet, options, data):
    chosen, _ = resolve([("test", options)])
    records = run_of(calm(quiet))
    records += [Record("r", "s", quiet + n, (quiet + n) * 10, values=row) for n, row in enumerate(rows)]
    step = data.draw(st.sampled_from([r.step for r in records[-len(rows) - 2 :]]))
    engine = Engine("r", chosen, rule_classes())
    replayed = [engine.feed(r) for r in records]
    explained = list(explain("r", records, chosen, rule_classes(), step))

    assert repr(replayed) == repr([outputs for _, outputs, _ in explained])
    [(outputs, seen)] = [(o, s) for _, o, s in explained if s is not None]
    fired = [(e.rule, e.reason) for e in seen.explanations if e.said == "fired"]
    assert sorted((f.kind, f.reason) for f in outputs if isinstance(f, Finding)) == sorted(fired)
    assert list(text(seen))
    for e in seen.explanations:
        assert "explanation" == json.loads(to_json(explanation_json(e)))["event"]
