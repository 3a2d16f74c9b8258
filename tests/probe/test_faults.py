"""Faults planted in real trainings are named with their layer by whoever reads the probe's file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from tests.command_line import command  # noqa: E402
from tests.daemon.watching import Monitor  # noqa: E402
from tests.probe import faulty  # noqa: E402
from tests.waiting import until  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

PLANTED = [
    (faulty.explode, "gradient_explosion", "blocks.1.down.weight"),
    (faulty.nan, "nan", "blocks.2.up.weight"),
    (faulty.dead, "layer_frozen", "blocks.1.up.weight"),
    (faulty.reversal, "gradient_direction", "blocks.0.up.weight"),
    (faulty.frozen, "layer_frozen", "blocks.2.up.weight"),
    (faulty.detached, "layer_frozen", "blocks.0.down.weight"),
]


def findings(text: str) -> list[dict[str, Any]]:
    return [e for e in map(json.loads, text.splitlines()) if e["event"] == "finding"]


def first_layer(found: dict[str, Any]) -> str:
    """The layer named first in the message."""
    return str(next(iter(found["evidence"]["layers"])))


def judged(found: list[dict[str, Any]], kind: str, layer: str) -> None:
    """The first finding of the kind names the layer: alone and first, or (of dead and frozen ones) among those of its block."""
    first = next((f for f in found if f["kind"] == kind), None)
    assert first is not None, found
    assert faulty.BEGINS <= first["step"] <= faulty.STEPS
    layers = first["evidence"]["layers"]
    assert layer in layers
    assert first_layer(first) in first["message"]
    if kind != "layer_frozen":
        assert layer == first_layer(first)
    else:
        module = layer.rpartition(".")[0].rpartition(".")[0]
        assert {n.rpartition(".")[0].rpartition(".")[0] for n in layers} == {module}


@pytest.mark.parametrize(("fault", "kind", "layer"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_replay_names_the_layer(tmp_path: Path, fault: faulty.Fault, kind: str, layer: str) -> None:
    faulty.train(tmp_path, fault)
    done = command("replay", tmp_path, "--format", "jsonl")
    judged(findings(done.stdout), kind, layer)


def test_overflow_of_half_precision_names_the_layers_that_overflowed(tmp_path: Path) -> None:
    infinite = faulty.train_in_half(tmp_path)
    assert infinite
    (found, *_) = [f for f in findings(command("replay", tmp_path, "--format", "jsonl").stdout) if f["kind"] == "nan"]
    assert found["step"] == faulty.BEGINS
    assert set(found["evidence"]["layers"]) == set(infinite)


def test_a_healthy_training_is_silent(tmp_path: Path) -> None:
    faulty.train(tmp_path)
    done = command("replay", tmp_path, "--format", "jsonl")
    assert [f for f in findings(done.stdout) if f["severity"] != "info"] == []


@pytest.mark.parametrize(("fault", "kind", "layer"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_the_monitor_beside_names_the_layer_before_training_ends(
    tmp_path: Path, fault: faulty.Fault, kind: str, layer: str
) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        faulty.train(tmp_path, fault, beside=waiting(monitor, kind, faulty.STEPS))
        judged(live(monitor), kind, layer)


def test_the_monitor_beside_names_the_layers_that_overflow_in_half_precision(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        infinite = faulty.train_in_half(tmp_path, beside=waiting(monitor, "nan", faulty.STEPS_IN_HALF))
        (found, *_) = [f for f in live(monitor) if f["kind"] == "nan"]
    assert infinite
    assert found["step"] == faulty.BEGINS
    assert set(found["evidence"]["layers"]) == set(infinite)


def test_the_monitor_beside_a_healthy_training_is_silent(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        faulty.train(tmp_path)
        monitor.sees(faulty.STEPS)
        assert [f for f in live(monitor) if f["severity"] != "info"] == []


def waiting(monitor: Monitor, kind: str, last: int) -> Callable[[int], None]:
    """What a training does beside: after its last step, its probe open, it waits until the monitor has told of the kind."""

    def beside(step: int) -> None:
        if step == last:
            until(lambda: any(f["kind"] == kind for f in live(monitor)), f"a finding of {kind} while training goes on")

    return beside


def live(monitor: Monitor) -> list[dict[str, Any]]:
    """The findings of events.jsonl that are no history."""
    return [f for f in monitor.events("finding") if not f["historical"]]


def test_a_monitor_killed_beside_changes_no_weight(tmp_path: Path) -> None:
    bare = faulty.train(None)
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        watched = faulty.train(tmp_path, beside=lambda step: monitor.kill() if step == 50 else None)
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))
