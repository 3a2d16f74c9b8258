"""The loss scale of mixed precision: gradients carry it until the scaler takes it out, and a step it skips is no accident."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Scale(NamedTuple):
    in_use: bool
    """Is there a scaler that skips steps which are not finite?"""
    remaining: Tensor | None
    """What the gradients are still multiplied by, where it lives (nothing is waited for); None: nothing."""


def loss_scale(scaler: Any, optimizer: Any) -> Scale:
    """What `scaler` (a torch.amp.GradScaler or None) has done to the gradients of `optimizer` at this moment."""
    if scaler is None or not scaler.is_enabled():
        return Scale(False, None)
    inner = optimizer
    while hasattr(inner, "optimizer"):  # Accelerate and others wrap it
        inner = inner.optimizer
    state = getattr(scaler, "_per_optimizer_states", {}).get(id(inner), {})
    if getattr(state.get("stage"), "name", "READY") != "READY":
        return Scale(True, None)
    kept = getattr(scaler, "_scale", None)
    return Scale(
        True, kept if isinstance(kept, Tensor) else torch.tensor(float(scaler.get_scale()), dtype=torch.float32, device="cpu")
    )
