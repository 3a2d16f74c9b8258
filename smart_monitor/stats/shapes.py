"""How the metrics differ whose trouble is not "rising, relative to the level"."""

from __future__ import annotations

from typing import Any

LOSS_APART, POINTS_APART = 5.5, 5.0
"""Step noises from the level that a loss (compounded) or an accuracy must be, for all that its tail allows."""
SPEEDS = tuple(f"{what}_per_{time}" for what in ("tokens", "steps", "samples", "examples") for time in ("sec", "second"))
"""How trainers call their throughput."""
SHAPES: dict[str, dict[str, Any]] = {
    "loss": {"apart": LOSS_APART},
    "accuracy": {"bad": -1, "absolute": True, "times": 1.0, "apart": POINTS_APART},
    "eval_accuracy": {"bad": -1, "absolute": True, "times": 1.0, "apart": POINTS_APART},
    "reward": {"bad": -1},
    **{speed: {"bad": -1} for speed in SPEEDS},
}
"""Metric -> what its `Baseline` is made with."""
