"""Metrics to whatever logger the training code has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from smart_monitor.probe.loggers import hand_on

METHODS = ("log", "log_metrics", "add_scalar")
"""A logger has one of these: a W&B run or an object of one's own; Lightning's loggers; TensorBoard's SummaryWriter."""


def is_logger(thing: Any) -> bool:
    return any(callable(getattr(thing, name, None)) for name in METHODS)


def log_to(logger: Any, metrics: Mapping[str, float], step: int) -> None:
    """Raises TypeError, one sentence, for an object that is no logger."""
    if not is_logger(logger):
        raise TypeError(f"a logger has a method log(dict), log_metrics(dict, step) or add_scalar, unlike {type(logger).__name__}")
    hand_on(logger, dict(metrics), step)


def running_wandb() -> Any:
    """The W&B run of this process if one is running, else None. wandb is never imported for it."""
    return getattr(sys.modules.get("wandb"), "run", None)
