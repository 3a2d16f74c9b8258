"""Training does not notice that it is looked at: the weights end bit-identical, whatever the disk does."""

from __future__ import annotations

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
)

pytestmark = pytest.mark.torch
Look = Callable[[nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Tensor, int], object]


def weights(look: Callable[[nn.Module], Look] | None = None, steps: int = 40) -> torch.Tensor:
    """Of a small training with dropout, a spike in the data and rewards that come from its random numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    seen = look(model) if look is not None else None
    for step in range(steps):
        x = torch.randn(8, 6) * (1e4 if step == 30 else 1.0)
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if seen is not None:
            seen(model, optimizer, loss, x, step)
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def every_face(directory: Path) -> Callable[[nn.Module], Look]:
    def watch(model: nn.Module) -> Look:
        monitor, collector = GradientHealthMonitor(model, enable_detailed_logging=True), MetricsCollector()
        advanced, detector = (
            AdvancedAnomalyDetector(directory / "a", reward={"window_size": 16}),
            AnomalyDetector(directory / "b"),
        )
        activations = ActivationMonitor(model).start()

        def look(*given: Any) -> None:
            model, optimizer, loss, x, step = given
            monitor.log_statistics(monitor.check_gradients(), step=step)
            collector.collect_step_metrics(model, step, loss)
            pairs = x.detach()[:, 0]
            advanced.analyze_training_step(model, optimizer, loss, 8, batch=x, chosen_rewards=pairs, rejected_rewards=-pairs)
            detector.check(step, loss, 1.0, batch=x)
            activations.statistics()
            advanced.flush()
            detector.flush()

        return look

    return watch


def test_with_every_face_at_once_the_weights_are_the_same_bits(tmp_path: Path):
    assert torch.equal(weights(), weights(every_face(tmp_path)))
    assert (tmp_path / "b" / "anomalies" / "anomalies_rank_0.jsonl").exists()


def test_a_place_that_cannot_be_written_changes_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")

    assert torch.equal(weights(), weights(every_face(tmp_path / "file")))
