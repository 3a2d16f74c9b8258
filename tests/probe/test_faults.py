"""Faults planted in real trainings are named with their layer by whoever reads the probe's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from tests.daemon.watching import Monitor, command, until  # noqa: E402
from tests.probe import faulty  # noqa: E402

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


@pytest.mark.parametrize(("fault", "kind", "layer"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_replay_names_the_layer(tmp_path: Path, fault: faulty.Fault, kind: str, layer: str) -> None:
    faulty.train(tmp_path, fault)
    done = command("replay", tmp_path, "--format", "jsonl")
    found = [f for f in findings(done.stdout) if f["kind"] == kind]
    assert found, done.stdout + done.stderr
    assert faulty.BEGINS <= found[0]["step"] <= faulty.STEPS
    assert layer in found[0]["evidence"]["layers"]
    assert first_layer(found[0]) in found[0]["message"]
    if kind != "layer_frozen":
        assert layer == first_layer(found[0])
    else:
        module = layer.rpartition(".")[0].rpartition(".")[0]
        assert {n.rpartition(".")[0].rpartition(".")[0] for n in found[0]["evidence"]["layers"]} == {module}


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


def test_the_monitor_beside_names_the_layer_while_training_goes_on(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        faulty.train(tmp_path, faulty.nan)
        until(lambda: any(f["kind"] == "nan" for f in told(tmp_path)), "the finding")
        found = next(f for f in told(tmp_path) if f["kind"] == "nan")
        assert found["step"] == faulty.BEGINS
        assert first_layer(found) == "blocks.2.up.weight"
        assert not found["historical"]
        monitor.stop()


def test_a_monitor_killed_beside_changes_no_weight(tmp_path: Path) -> None:
    bare = faulty.train(None)
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        watched = faulty.train(tmp_path, beside=lambda step: monitor.kill() if step == 50 else None)
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))


def told(base: Path) -> list[dict[str, Any]]:
    path = base / "logs" / "events.jsonl"
    return findings(path.read_text()) if path.exists() else []
