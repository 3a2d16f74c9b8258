"""The probe's meter, for models that are still growing or get their parameters replaced."""

from __future__ import annotations

from torch import nn

from smart_monitor.probe.gradients import GradientMeter, Gradients
from smart_monitor.probe.parameters import can_learn


class Measure:
    """Measures whatever parameters a model has at each call; nothing, where it has none with elements yet.

    Raises CannotMeasure, one sentence, for a model whose gradients are out of sight.
    """

    def __init__(self) -> None:
        self._meter: GradientMeter | None = None
        self._known: tuple[int, ...] = ()

    def __call__(self, model: nn.Module) -> Gradients:
        parameters = tuple(id(p) for p in model.parameters() if can_learn(p))
        if not parameters:
            return Gradients({})
        if self._meter is None or parameters != self._known:  # layers were added, or sharding has replaced them
            self._meter, self._known = GradientMeter(model), parameters
        return self._meter.measure()
