"""Numerically stable similarities, activations and gradient checkpointing for training code (extra `[torch]`).

    from smart_monitor.losses import get_stable_loss_function

    logits = get_stable_loss_function(loss_version=1)(images, captions, audio)     # [B, B, B]

These functions run inside the training process and have nothing to do with the monitor beside it: they
write nothing and watch nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    "ImprovedActivations": "activations",
    "StableLossFunctions": "stable",
    "StableSimilarity": "stable",
    "add_gradient_checkpointing": "checkpointing",
    "get_stable_loss_function": "stable",
}


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch is an extra, and its absence is one sentence."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("smart_monitor.losses needs PyTorch: pip install 'smart-monitor[torch]'") from error
