"""Does what runs inside training work here? The monitor and the four losses on a toy model (`smart-monitor doctor --torch`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from smart_monitor.inprocess.gradient_health import GradientHealthMonitor
from smart_monitor.losses import ImprovedActivations, get_stable_loss_function

BATCH, WIDTH, MODALITIES = 16, 32, 3
LOSSES = ("Einsum-based", "Norm-based", "Cosine similarity", "Distance-based")


class Outcome(NamedTuple):
    ok: bool
    sentence: str


def outcomes() -> Iterator[Outcome]:
    """One for the monitor and one for each loss. Nothing is raised."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield _tried("Gradient health monitor", lambda: _monitor(device))
    for version, name in enumerate(LOSSES):
        yield _tried(f"{name} (v{version})", partial(_loss, version, device))


def _tried(name: str, check: Callable[[], str]) -> Outcome:
    try:
        return Outcome(True, f"{name}: {check()}")
    except Exception as error:
        return Outcome(False, f"{name}: {type(error).__name__}: {error}".splitlines()[0])


def _monitor(device: torch.device) -> str:
    """A toy step whose NaN, planted in one layer, is found there; a healthy one whose norm is the written-out one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), ImprovedActivations.gelu(), nn.Linear(WIDTH, 1)).to(device)
    monitor = GradientHealthMonitor(model=model)
    model(torch.randn(BATCH, WIDTH, device=device)).square().mean().backward()
    stats = monitor.check_gradients()
    expected = sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    _require(abs(stats["global_grad_norm"] - expected) <= 1e-5 * expected, f"norm {stats['global_grad_norm']}, not {expected}")
    _require(not stats["has_nan"] and not stats["has_inf"], "non-finite gradients in a healthy step")
    gradient = model[2].weight.grad
    assert gradient is not None
    gradient[0, 0] = float("nan")
    _require(monitor.check_gradients()["nan_layers"] == ["2.weight"], "a planted NaN was not found in its layer")
    return (
        f"global norm {stats['global_grad_norm']:.4f}, max norm {stats['max_grad_norm']:.4f}, min norm "
        f"{stats['min_grad_norm']:.1e}, has NaN: {stats['has_nan']}, has Inf: {stats['has_inf']}"
    )


def _loss(version: int, device: torch.device) -> str:
    """Finite logits of the right shape and finite gradients, of ordinary features and of zeros and 1e20."""
    torch.manual_seed(0)
    similarity = get_stable_loss_function(version)
    features = [torch.randn(BATCH, WIDTH, device=device).requires_grad_() for _ in range(MODALITIES)]
    logits = similarity(*features)
    hard = [torch.full((2, WIDTH), value, device=device).requires_grad_() for value in (0.0, 1e20, 1.0)]
    for found, given in ((logits, features), (similarity(*hard), hard)):
        found.sum().backward()
        _require(bool(torch.isfinite(found).all()), "logits that are not finite")
        _require(all(f.grad is not None and bool(torch.isfinite(f.grad).all()) for f in given), "gradients that are not finite")
    logits = logits.detach()
    _require(list(logits.shape) == [BATCH] * MODALITIES, f"shape {list(logits.shape)}")
    return (
        f"shape {list(logits.shape)}, range [{float(logits.min()):.4f}, {float(logits.max()):.4f}], "
        f"mean {float(logits.mean()):.4f}, std {float(logits.std()):.4f}, backward pass works"
    )


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)
