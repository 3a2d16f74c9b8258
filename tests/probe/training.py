"""A small real training with a probe in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smart_monitor.probe import Probe, Schedule

ALL = Schedule(layers=1, direction=1, updates=1, weights=1, memory=1, pairs=1, spread=1)


def fresh(seed: int = 0, width: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "probe_rank_0.jsonl").read_text().splitlines()]


def train(
    model: nn.Module,
    probe: Probe | None,
    steps: int = 8,
    see: Callable[[nn.Module], None] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> nn.Module:
    """A small real training; `see` looks at the model where the probe does."""
    torch.manual_seed(1)
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x = torch.randn(16, 8)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if see is not None:
            see(model)
        if probe is not None:
            probe.step(loss, batch={"x": x})
        optimizer.step()
    return model


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])
