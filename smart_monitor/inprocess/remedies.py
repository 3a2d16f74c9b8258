"""What the gradient monitor says: the line of a step, and what to do about trouble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAN, INF, EXPLODING, VANISHING = "nan", "inf", "exploding", "vanishing"
INDENT = "\n   "
SHOWN = 5


def health_line(stats: Mapping[str, Any], step: int) -> str:
    """`Step 150 - Gradient Health: Global Norm=125.43, Max=340.12, Min=3.2e-08, Mean=45.67`."""
    return (
        f"Step {step} - Gradient Health: Global Norm={stats['global_grad_norm']:.2f}, Max={stats['max_grad_norm']:.2f}, "
        f"Min={stats['min_grad_norm']:.1e}, Mean={stats['mean_grad_norm']:.2f}"
    )


def remedies(stats: Mapping[str, Any], vanishing: float, exploding: float) -> dict[str, str]:
    """Trouble -> the sentence about it, and what to consider; the worst first."""
    found = {}
    if stats["has_nan"]:
        found[NAN] = (
            f"⚠️ CRITICAL: NaN in the gradients of {_names(stats['nan_layers'])}: training will fail!{INDENT}"
            "Consider: (1) Reducing learning rate by 10x, (2) Adding epsilon to all normalizations, (3) Using a stable loss "
            "function (version 1), (4) Gradient clipping (max_norm=1.0), (5) Looking for a division by zero"
        )
    if stats["has_inf"]:
        found[INF] = (
            f"⚠️ CRITICAL: Inf in the gradients of {_names(stats['inf_layers'])}: training will fail!{INDENT}"
            "Consider: (1) Gradient clipping (max_norm=1.0), (2) Reducing learning rate by 10x, (3) Adding layer normalization, "
            "(4) Using a stable loss function, (5) A lower loss scale in mixed precision"
        )
    if stats["global_grad_norm"] > exploding:
        found[EXPLODING] = (
            f"⚠️ Exploding gradients detected (norm={stats['global_grad_norm']:.2f})!{INDENT}"
            "Consider: (1) Gradient clipping, (2) Reducing learning rate"
        )
    if 0 < stats["min_grad_norm"] < vanishing:
        found[VANISHING] = (
            f"⚠️ Vanishing gradients detected (min norm={stats['min_grad_norm']:.1e})!{INDENT}"
            "Consider: (1) Using residual connections, (2) Changing activation functions"
        )
    return found


def _names(layers: list[str]) -> str:
    more = f" and {len(layers) - SHOWN} more" if len(layers) > SHOWN else ""
    return ", ".join(layers[:SHOWN]) + more
