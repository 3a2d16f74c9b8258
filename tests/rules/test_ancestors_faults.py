"""The faults of the ancestor of this monitor, by name: each of them silenced or swamped somebody once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from smart_monitor.config import Settings, resolve
from smart_monitor.engine import Engine
from smart_monitor.model import Decision, Finding, Output, Record
from smart_monitor.registry import rule_classes


def rows(losses: Iterable[float | None], **more: float) -> list[Record]:
    return [
        Record(
            "run",
            "log",
            n,
            step=n,
            values=dict(more) if loss is None else {"loss": loss, **more},
            nulls=("loss",) * (loss is None),
        )
        for n, loss in enumerate(losses)
    ]


def told(records: Iterable[Record], **settings: object) -> list[Output]:
    engine = Engine("run", resolve([("test", settings)])[0] if settings else Settings(), rule_classes())
    return [output for record in records for output in engine.feed(record)]


def findings(records: Iterable[Record], **settings: object) -> list[tuple[str, int]]:
    return [(o.kind, o.record) for o in told(records, **settings) if isinstance(o, Finding)]


def calm(count: int, level: float = 1.0, seed: int = 0) -> list[float]:
    source = random.Random(seed)
    return [level * source.gauss(1, 0.005) for _ in range(count)]


def test_a_score_is_not_held_down_by_the_judged_value_in_its_own_window() -> None:
    # Of ten values, one of them judged, no z-score exceeds (n-1)/sqrt(n) = 2.85, however large the value.
    [spike] = [o for o in told(rows([*calm(30), 50.0])) if isinstance(o, Finding)]
    assert spike.score is not None and spike.score > 1000


def test_thirty_per_cent_needs_thirty_per_cent_and_not_forty_one() -> None:
    # With the judged value in the mean of five, 1.3 x mean is reached only at 1.405 x what was.
    assert findings(rows([1.0, 1.0, 1.0, 1.0, 1.0, 1.31]), noise_guard=False) == [("loss_spike", 5)]


def test_a_nan_does_not_pass_every_rule() -> None:
    assert findings(rows([*calm(10), math.nan])) == [("nan", 10)]


def test_a_null_metric_silences_nothing() -> None:
    assert findings(rows([*calm(5), None, *calm(30), None, 3.0])) == [("nan", 36), ("loss_spike", 37)]


def test_one_zero_is_not_the_best_for_ever() -> None:
    found = findings(rows([*calm(30), 0.0, *calm(30), 0.9], grad_norm=1.0))
    assert found == [("best_model", 61)]


def test_small_improvements_are_no_best_until_they_add_up() -> None:
    losses = [1.0 - n * 0.001 for n in range(60)]
    assert findings(rows(losses), noise_guard=False) == [("best_model", 21), ("best_model", 41)]


def test_the_best_does_not_advance_unannounced_because_a_gate_is_shut() -> None:
    outputs = told(rows([*[1.0] * 20, 0.9, *[0.9] * 9, 0.8, *[0.8] * 500]))
    decisions = [(d.reason, bool(d.gated)) for d in outputs if isinstance(d, Decision)]
    assert decisions == [
        ("best_model_loss_0.9000", False),
        ("best_model_loss_0.8000", True),
        ("best_model_loss_0.8000", False),
    ]


def test_a_snapshot_of_one_rule_does_not_shut_the_gate_of_another() -> None:
    outputs = told(rows([*[1.0] * 20, 0.9, 2.0]))
    assert [d.kinds for d in outputs if isinstance(d, Decision) and not d.gated] == [("best_model",), ("loss_spike",)]
