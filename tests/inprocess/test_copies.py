"""Modules are copied (averaged weights) and pickled (for other processes) with whatever they hold."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.probe import (  # noqa: E402
    ActivationMonitor,
    AdvancedAnomalyDetector,
    AnomalyDetector,
    GradientHealthMonitor,
    MetricsCollector,
    Probe,
)

pytestmark = pytest.mark.torch

COPIES: dict[str, Callable[[Any], Any]] = {"copied": copy.deepcopy, "pickled": lambda module: pickle.loads(pickle.dumps(module))}


class Holding(nn.Module):
    def __init__(self, out: Path) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.probe = Probe(self, None, out)
        self.detector = AdvancedAnomalyDetector(out / "advanced", gradient={"explosion_threshold": 5.0})
        self.keeper = AnomalyDetector(out / "keeper", fixed_loss_threshold=0.3)
        self.health, self.collector, self.activations = GradientHealthMonitor(self), MetricsCollector(), ActivationMonitor(self)

    def trained(self, step: int, steepness: float) -> list[str]:
        """What the detectors tell of one step."""
        self.zero_grad()
        (self.layer(torch.ones(1, 2)) * steepness).sum().backward()
        self.probe.step(1.0, step=step)
        self.collector.collect_step_metrics(self, step, 1.0)
        assert self.health.check_gradients()["global_grad_norm"] > 0
        kept = self.keeper.check(step, steepness, batch=torch.ones(1))
        return [alert["kind"] for alert in self.detector.analyze_training_step(self, step=step)] + ["kept"] * (kept is not None)


@pytest.mark.parametrize("how", COPIES)
def test_a_module_that_holds_what_watches_it_can_be_copied_in_the_middle_of_a_run(tmp_path: Path, how: str) -> None:
    module = Holding(tmp_path)
    assert module.trained(1, 9.0) == ["gradient_explosion", "kept"]
    other = COPIES[how](module)
    assert other.health.model is other
    assert other.trained(2, 9.0) == ["gradient_explosion", "kept"]
    assert module.trained(3, 0.1) == []
    for each in (module, other):
        assert each.detector.flush()
        assert each.keeper.flush()
        each.probe.close()
    alerts = [json.loads(line)["step"] for line in (tmp_path / "advanced/alerts.jsonl").read_text().splitlines()]
    assert alerts == [1, 2]
    assert len((tmp_path / "keeper/anomalies/anomalies_rank_0.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("how", COPIES)
def test_the_copy_of_a_probe_measures_nothing_and_says_why(tmp_path: Path, how: str) -> None:
    module = Holding(tmp_path)
    other = COPIES[how](module)
    for step in range(1, 4):
        module.trained(step, 0.1)
        other.trained(step, 0.1)
    assert not other.probe.on
    assert "a copy measures nothing" in other.probe.trouble
    assert other.probe.flush()
    module.probe.close()
    assert [1, 2, 3] == [json.loads(line)["step"] for line in (tmp_path / "probe_rank_0.jsonl").read_text().splitlines()]
