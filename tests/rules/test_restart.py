"""What is told of a restart beside the fact itself."""

from __future__ import annotations

from typing import Any

import pytest

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


def appended(values: dict[str, float], **more: Any) -> list[Record]:
    """A training whose loss falls, and another behind it, in rows that bear `values` as well, and what is in `more`."""
    losses = [4.0 * 0.97**n for n in range(80)] * 2
    return [
        Record("r", "log", n, n, values={"loss": loss, **values})._replace(
            **{k: v(n) if callable(v) else v for k, v in more.items()}
        )
        for n, loss in enumerate(losses)
    ]


@pytest.mark.parametrize("more", [{}, {"step": lambda n: n + 1}, {"step": None, "by": "row"}])
def test_a_loss_that_leaps_back_to_where_it_began_is_a_restart_where_nothing_counts(more: dict[str, Any]) -> None:
    [told] = restarts(appended({}, **more))

    assert (told.record, told.attempt, told.severity, told.strategy) == (80, 2, "warning", "curve")


@pytest.mark.parametrize(
    "more",
    [
        {"step": lambda n: 10 * n},
        {"step": lambda n: n + 50},
        {"by": "epoch"},
        {"epoch": lambda n: n / 20},
        {"time": lambda n: 1e9 + n},
        {"values": {"learning_rate": 1e-4}},
        {"source": "status"},
    ],
)
def test_a_loss_that_leaps_back_is_no_restart_where_something_goes_on(more: dict[str, Any]) -> None:
    assert restarts(appended(**{"values": {}, **more})) == []


def test_a_loss_that_has_not_halved_yet_leaps_back_to_no_beginning() -> None:
    values = [4.0 - 0.01 * n for n in range(100)] + [4.0] * 20

    assert restarts([Record("r", "log", n, n, values={"loss": loss}) for n, loss in enumerate(values)]) == []
