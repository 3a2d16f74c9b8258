"""What is told of a restart beside the fact itself."""

from __future__ import annotations

from smart_monitor.config import Settings
from smart_monitor.engine import Engine
from smart_monitor.model import Finding, Record
from smart_monitor.registry import rule_classes


def restarts(records: list[Record]) -> list[Finding]:
    return [f for f in Engine("r", Settings(), rule_classes()).replay(records) if f.kind == "restart"]


def test_a_restart_tells_what_it_begins_with_beside_the_level_that_was_left() -> None:
    before = [Record("r", "s", n, n, values={"loss": 0.5, "accuracy": 90.0, "kl": 0.1}) for n in range(100)]
    [told] = restarts([*before, Record("r", "s", 100, 50, values={"loss": 0.9, "eval_loss": 1.0, "accuracy": 60.0})])

    assert told.message.endswith("the step fell from 99 to 50; loss 0.9, its level was 0.5; accuracy 60, its level was 90")
    assert {"loss": 0.5, "accuracy": 90.0} == told.evidence["before"]
    assert "info" == told.severity


def test_a_restart_that_begins_with_no_number_compares_none() -> None:
    before = [Record("r", "s", n, n, values={"loss": 0.5}) for n in range(100)]
    [told] = restarts([*before, Record("r", "s", 100, 50, values={"loss": float("nan")})])

    assert told.message.endswith("the step fell from 99 to 50")
    assert "before" not in told.evidence
