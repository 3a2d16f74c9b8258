"""A small real training that a detector looks at, and in which faults are planted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Fault = Callable[[int, nn.Module, torch.optim.Optimizer], None]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))


def train(
    look: Callable[..., list[dict[str, Any]]], fault: Fault | None = None, steps: int = 200, seed: int = 0, rate: float = 1e-3
) -> list[dict[str, Any]]:
    """All alerts. `fault` comes between backward and the look; a number it returns takes the loss's place."""
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    aim = torch.randn(8, 1)
    found: list[dict[str, Any]] = []
    for step in range(steps):
        x = torch.randn(32, 8)
        loss = (model(x) - x @ aim).square().mean()
        optimizer.zero_grad()
        loss.backward()
        other = fault(step, model, optimizer) if fault is not None else None
        found += look(model=model, optimizer=optimizer, loss=loss.item() if other is None else other, batch_size=32)
        if math.isfinite(sum(float(p.grad.sum()) for p in model.parameters())):
            optimizer.step()
    return found
