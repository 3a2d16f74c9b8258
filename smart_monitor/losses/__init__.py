"""Numerically stable similarities, activations and gradient checkpointing for training code (extra `[torch]`).

    from smart_monitor.losses import get_stable_loss_function

    logits = get_stable_loss_function(loss_version=1)(images, captions, audio)     # [B, B, B]

These functions run inside the training process and have nothing to do with the monitor beside it: they
write nothing and watch nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smart_monitor.lazily import lazily

if TYPE_CHECKING:
    from smart_monitor.losses.activations import ImprovedActivations
    from smart_monitor.losses.checkpointing import add_gradient_checkpointing
    from smart_monitor.losses.stable import StableLossFunctions, StableSimilarity, get_stable_loss_function

__all__ = [
    "ImprovedActivations",
    "StableLossFunctions",
    "StableSimilarity",
    "add_gradient_checkpointing",
    "get_stable_loss_function",
]

_HOMES = {
    "ImprovedActivations": "smart_monitor.losses.activations",
    "StableLossFunctions": "smart_monitor.losses.stable",
    "StableSimilarity": "smart_monitor.losses.stable",
    "add_gradient_checkpointing": "smart_monitor.losses.checkpointing",
    "get_stable_loss_function": "smart_monitor.losses.stable",
}
_NEEDS = {"torch": "smart_monitor.losses needs PyTorch: pip install 'smart-monitor[torch]'"}

__getattr__, __dir__ = lazily(__name__, _HOMES, _NEEDS)
