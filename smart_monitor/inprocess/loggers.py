"""Metrics to whatever logger the training code has."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def log_to(logger: Any, metrics: Mapping[str, float], step: int) -> None:
    """Anything with `.log(dict)` (a wandb run, an object of one's own), `.log_metrics(dict, step)` (Lightning's loggers) or
    `.add_scalar(name, value, step)` (TensorBoard's SummaryWriter).

    Raises TypeError, one sentence, for an object with none of them.
    """
    if hasattr(logger, "log_metrics"):
        logger.log_metrics(dict(metrics), step=step)
    elif hasattr(logger, "log"):
        logger.log(dict(metrics))
    elif hasattr(logger, "add_scalar"):
        for name, value in metrics.items():
            logger.add_scalar(name, value, step)
    else:
        raise TypeError(f"a logger has a method log(dict), log_metrics(dict, step) or add_scalar, unlike {type(logger).__name__}")


def running_wandb() -> Any:
    """The wandb run of this process if one is running, else None. wandb is never imported for it."""
    wandb = sys.modules.get("wandb")
    return getattr(wandb, "run", None)
