"""What holds of the engine whatever it is fed: streams of calm curves broken by every kind of shock."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.config import resolve
from smart_monitor.engine import Engine, StateError
from smart_monitor.model import OUTCOME, STATE, TICK, Decision, Finding, IncidentEvent, Output, Record, finding_json, to_json
from smart_monitor.registry import rule_classes

MOST = 64 << 10
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, -1e308, 1e308, 5e-324, 1e-300, 3, 0, 10**400, -(10**400)])
METRICS = (*sorted({metric for rule in rule_classes().values() for metric in rule.metrics}), "has_nan", "bleu")
"""All that any rule judges, and a metric that none does."""
SHOCK = st.one_of(
    st.tuples(st.just("calm"), st.integers(1, 40), st.floats(0.01, 100)),
    st.tuples(st.just("value"), st.sampled_from(METRICS), st.one_of(ODD, st.floats(), st.floats(0, 2))),
    st.tuples(st.just("null"), st.sampled_from(METRICS)),
    st.tuples(st.just("without"), st.sampled_from(METRICS)),
    st.tuples(st.just("step"), st.sampled_from([None, 0, 1, 7, 10**9])),
    st.tuples(
        st.just("tick"), st.floats(0, 5000), st.floats(0, 100), st.sampled_from(["", "alive", "dead", "finished", "unknown"])
    ),
    st.tuples(st.just("state"), st.sampled_from(["idle", "training", "crashed", "completed"])),
    st.tuples(st.just("outcome"), st.sampled_from(["failed", "lost", "published"])),
    st.tuples(st.just("pid"), st.sampled_from(["1", "2"])),
)
GUARDS = st.sampled_from(
    [
        {},
        {"noise_guard": False},
        {"preset": "sensitive", "loss_window": 4},
        {"phase": [{"until_step": 30, "loss_spike_threshold": 2}]},
    ]
)


def stream(shocks: Sequence[tuple[object, ...]], seed: int) -> list[Record]:
    """Records: a calm row after each shock, and the shock itself in place of one."""
    source, lines, step, seen, pid, rows = random.Random(seed), [], 0, 1.7e9, "1", 0
    for shock in shocks:
        kind, level = shock[0], 1.0
        if kind == "tick":
            seen += float(shock[1])  # type: ignore[arg-type]
            figures = {"blind": float(shock[2]), "host_memory_percent": float(shock[2]), "gpu0_memory_percent": float(shock[2])}  # type: ignore[arg-type]
            ids = {"pid": pid, "started": pid, "doing": "running"} if shock[3] else {}
            lines.append(
                Record("r", "host", max(0, rows - 1), seen=seen, values=figures, kind=TICK, state=str(shock[3]), ids=ids)
            )
            continue
        if kind in ("state", "outcome"):
            ids = {"decision": "r:s:0:1:5:snapshot"}
            lines.append(
                Record(
                    "r",
                    "s",
                    max(0, rows - 1),
                    seen=seen,
                    kind=STATE if kind == "state" else OUTCOME,
                    state=str(shock[1]),
                    ids=ids,
                )
            )
            continue
        count = int(shock[1]) if kind == "calm" else 1  # type: ignore[call-overload]
        level = float(shock[2]) if kind == "calm" else 1.0  # type: ignore[arg-type]
        if kind == "pid":
            pid = str(shock[1])
        for _ in range(count):
            step, seen = step + 1, seen + 1
            if kind == "step":
                step = shock[1]  # type: ignore[assignment]
            values = {
                "loss": level * source.gauss(1, 0.02),
                "accuracy": source.gauss(70, 1),
                "grad_norm": source.uniform(0.8, 1.2),
            }
            if rows % 5 == 0:
                values["eval_loss"] = source.gauss(1, 0.01)
            nulls: tuple[str, ...] = ()
            if kind == "value":
                values[str(shock[1])] = shock[2]  # type: ignore[assignment]
            elif kind in ("null", "without"):
                values.pop(str(shock[1]), None)
                nulls = (str(shock[1]),) if kind == "null" else ()
            lines.append(Record("r", "s", rows, step, "step", None, None, seen, values, nulls=nulls, ids={"pid": pid}))
            step, rows = step or 0, rows + 1
    return lines


def engine(layer: dict[str, object]) -> Engine:
    return Engine("r", resolve([("test", layer)])[0], rule_classes())


def through_json(old: Engine, layer: dict[str, object]) -> Engine:
    new = engine(layer)
    new.restore(json.loads(json.dumps(old.state())))
    return new


STREAMS = st.builds(stream, st.lists(SHOCK, min_size=1, max_size=30), st.integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(STREAMS, GUARDS, st.data())
def test_cut_anywhere_is_the_same_as_unbroken(lines: list[Record], layer: dict[str, object], data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(lines)), max_size=5))
    whole, broken = engine(layer), engine(layer)
    for n, line in enumerate(lines):
        if n in cuts:
            broken = through_json(broken, layer)
        assert repr(whole.feed(line)) == repr(broken.feed(line))
    assert json.dumps(whole.state(), sort_keys=True) == json.dumps(broken.state(), sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(STREAMS, GUARDS)
def test_nothing_raises_and_what_is_said_is_strict_json(lines: list[Record], layer: dict[str, object]) -> None:
    judging = engine(layer)
    decisions = []
    for line in lines:
        for output in judging.feed(line):
            if isinstance(output, Finding):
                assert output.kind != "rule_failed", output.message
                for number in (output.threshold, output.baseline, output.score):
                    assert number is None or math.isfinite(number)
                assert "inf" not in output.reason and "nan" not in output.reason.removeprefix("nan").removeprefix(
                    "masked_nan"
                ).replace("has_nan", "")
                json.loads(to_json(finding_json(output)), parse_constant=pytest.fail)
            elif isinstance(output, Decision):
                decisions += [output.id] if not output.gated else []
                json.loads(to_json(output.facts), parse_constant=pytest.fail)
    assert len(decisions) == len(set(decisions))
    assert len(json.dumps(judging.state())) <= MOST


def verdicts(outputs: Sequence[Output]) -> list[tuple[object, ...]]:
    return [(f.kind, f.record, f.reason if "pct" in f.reason else "") for f in outputs if isinstance(f, Finding)] + [
        (e.state, e.severity) for e in outputs if isinstance(e, IncidentEvent)
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.just("calm"), st.integers(1, 40), st.floats(0.01, 100)), min_size=1, max_size=10),
    st.integers(0, 99),
    GUARDS,
)
def test_a_loss_in_other_units_is_judged_the_same(shocks: list[tuple[object, ...]], seed: int, layer: dict[str, object]) -> None:
    plain, scaled = engine(layer), engine(layer)
    for line in stream(shocks, seed):
        larger = {k: v * 1024 if k.endswith("loss") else v for k, v in line.values.items()}
        assert verdicts(plain.feed(line)) == verdicts(scaled.feed(line._replace(values=larger)))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(METRICS), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 60))
def test_a_value_that_is_no_number_blinds_nothing_after_it(metric: str, value: float, at: int) -> None:
    lines = stream(
        [("calm", at, 1.0), ("value", metric, value), ("calm", 40, 1.0), ("value", "loss", 5.0)]
        if at
        else [("value", metric, value), ("calm", 40, 1.0), ("value", "loss", 5.0)],
        0,
    )
    judging = engine({})
    found = [o for line in lines for o in judging.feed(line) if isinstance(o, Finding)]
    assert ("loss_spike", len(lines) - 1) in [(f.kind, f.record) for f in found]


@settings(max_examples=30, deadline=None)
@given(
    STREAMS,
    GUARDS,
    st.sampled_from([{"disabled_rules": "loss_spike,best_model"}, {"loss_window": 30}, {"loss_window": 5, "noise_guard": False}]),
)
def test_other_settings_by_signal_are_the_same_as_by_a_restart(
    lines: list[Record], first: dict[str, object], then: dict[str, object]
) -> None:
    signalled = engine(first)
    half = len(lines) // 2
    for line in lines[:half]:
        signalled.feed(line)
    restarted = through_json(signalled, then)
    signalled.configure(resolve([("test", then)])[0])
    for line in lines[half:]:
        assert repr(signalled.feed(line)) == repr(restarted.feed(line))


def test_the_state_shares_nothing_with_the_engine() -> None:
    judging = engine({})
    lines = stream([("calm", 40, 1.0), ("value", "loss", 9.0), ("calm", 9, 1.0)], 0)
    for line in lines[:41]:
        judging.feed(line)
    state = judging.state()
    before = json.dumps(state)
    other = engine({})
    other.restore(state)
    for line in lines[41:]:
        judging.feed(line)
        other.feed(line)
    assert json.dumps(state) == before


@pytest.mark.parametrize(
    "damage", [{"schema": 2}, {"ranks": []}, {"ranks": {"0": {}}}, {"ranks": {"x": {}}}, {"ranks": {"0": None}}]
)
def test_a_state_that_cannot_be_used_is_said_and_leaves_nothing_behind(damage: dict[str, object]) -> None:
    judging = engine({})
    with pytest.raises(StateError):
        judging.restore({"schema": 1, "run": "r", "ranks": {}} | damage)
    assert judging.ranks == {}


def test_the_end_of_the_run_is_heard_by_every_rank() -> None:
    judging = engine({})
    for n in range(60):
        for rank in (0, 3):
            loss = {0: 1.0, 3: 1.0 if n < 40 else 0.9 if n < 50 else 0.8}[rank]
            judging.feed(Record("r", "s", 2 * n, n, values={"loss": loss}, rank=rank))
    outputs = judging.feed(Record("r", "s", 119, kind=STATE, state="completed"))
    assert [o.reason for o in outputs if isinstance(o, Decision)] == ["best_model_loss_0.8000"]


def test_the_state_is_small_however_many_metrics_are_judged() -> None:
    source, judging = random.Random(0), engine({})
    for n in range(400):
        values = {metric: (1e-3 if metric == "learning_rate" else 70.0) * source.gauss(1, 0.02) for metric in METRICS}
        judging.feed(Record("r", "s", n, n, values=values))
    assert len(json.dumps(judging.state())) <= MOST
