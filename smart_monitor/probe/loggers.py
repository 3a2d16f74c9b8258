"""The figures of gradients to W&B, TensorBoard and anything with `.log(dict)`, under the names people chart."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = {
    "grad_norm": "grad/global_norm",
    "grad/max_norm": "grad/max_norm",
    "grad/min_norm": "grad/min_norm",
    "has_nan": "grad/has_nan",
    "has_inf": "grad/has_inf",
    "grad_cosine": "grad/cosine",
    "update_ratio": "update/ratio",
    "weight_norm": "weight/norm",
}
_log = logging.getLogger("smart_monitor.probe")


def charted(record: Mapping[str, Any]) -> dict[str, float]:
    """The part of a record that is charted, by its names there."""
    found: dict[str, float] = {new: record[old] for old, new in _NAMES.items() if old in record}
    found |= {name: value for name, value in record.items() if name.startswith("grad_layer/")}
    return found


class Loggers:
    """Hands records on. One that raises is left out from then on, and that is said once."""

    def __init__(self, loggers: Sequence[Any]) -> None:
        self._loggers = list(loggers)

    def log(self, record: Mapping[str, Any]) -> None:
        if not self._loggers:
            return
        figures, step = charted(record), int(record["step"])
        for logger in list(self._loggers):
            try:
                hand_on(logger, figures, step)
            except Exception as error:
                self._loggers.remove(logger)
                _log.warning("%s takes no more figures of the probe: %s", type(logger).__name__, error)


def hand_on(logger: Any, figures: dict[str, float], step: int) -> None:
    """Figures to one logger, in the way that it takes them."""
    if hasattr(logger, "add_scalar"):  # TensorBoard
        for name, value in figures.items():
            logger.add_scalar(name, value, step)
    elif hasattr(logger, "log_metrics"):  # Lightning
        logger.log_metrics(figures, step)
    elif type(logger).__module__.partition(".")[0] == "wandb":
        # Joins a row of training's own: one of ours would move W&B's step past the training's, whose rows it would
        # then refuse. Which row that is depends on how training counts, so the figures bring their own axis.
        name = str(getattr(logger, "id", ""))
        if name not in _charted_by:
            _charted_by.add(name)
            for chart in ("grad/*", "grad_layer/*", "update/*", "weight/*"):
                logger.define_metric(chart, step_metric="probe/step")
        logger.log({**figures, "probe/step": step}, commit=False)
    else:
        logger.log(figures)


_charted_by: set[str] = set()
"""W&B runs that know the axis."""
