"""GradientHealthMonitor: the gradients of a model, looked at after each backward pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smart_monitor.inprocess.loggers import log_to, running_wandb
from smart_monitor.inprocess.measuring import Measure
from smart_monitor.inprocess.options import positive
from smart_monitor.inprocess.remedies import health_line, remedies
from smart_monitor.probe.gradients import Gradients

CLIP_EPS = 1e-6
"""Added to the norm that is divided by, as torch.nn.utils.clip_grad_norm_ does."""


class GradientHealthMonitor:
    """Norms, NaN, vanishing and exploding layers of `model`'s gradients, with what to do about them.

        monitor = GradientHealthMonitor(model=model, grad_clip_threshold=1.0, log_frequency=100)
        loss.backward()
        stats = monitor.check_gradients()
        monitor.log_statistics(stats, step=step)
        if stats["global_grad_norm"] > 10.0:
            monitor.apply_gradient_clipping(max_norm=1.0)

    A layer is a parameter tensor, by its dotted name. grad_clip_threshold: what `apply_gradient_clipping` clips to if
    it is not told. vanishing_threshold, exploding_threshold: of a layer's norm, the latter of the total as well.
    log_frequency: steps between two lines. enable_detailed_logging: as often the norm of every layer goes to the logger,
    too, which gets the others at each call. logger: see `log_to`; without one a running W&B run is used.

    The model may get its layers later. Each check waits for the device once. Under a GradScaler call
    `scaler.unscale_(optimizer)` first, or all of it is of scaled gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        grad_clip_threshold: float = 1.0,
        vanishing_threshold: float = 1e-7,
        exploding_threshold: float = 100.0,
        log_frequency: int = 100,
        enable_detailed_logging: bool = False,
        logger: Any = None,
    ) -> None:
        positive(
            grad_clip_threshold=grad_clip_threshold, vanishing_threshold=vanishing_threshold,
            exploding_threshold=exploding_threshold, log_frequency=log_frequency,
        )  # fmt: skip
        self.model = model
        self.grad_clip_threshold = grad_clip_threshold
        self.vanishing_threshold, self.exploding_threshold = vanishing_threshold, exploding_threshold
        self.log_frequency = int(log_frequency)
        self.enable_detailed_logging = enable_detailed_logging
        self.logger = logger
        self.last_stats: dict[str, Any] | None = None
        self._checks = 0
        self._logged = False
        self._told: set[str] = set()
        """Trouble that was told and is still there."""
        self._measured = Measure()

    def check_gradients(self) -> dict[str, Any]:
        """What the gradients are now.

        global_grad_norm: L2 norm of all together, NaN or inf if an element is. max_grad_norm, min_grad_norm,
        mean_grad_norm: of the finite layer norms, the smallest of those above 0 (0.0 where there is none). has_nan,
        has_inf, nan_layers, inf_layers (layer -> elements), overflow_layers (finite elements whose squares overflow).
        layers_with_vanishing_grads, layers_with_exploding_grads: names. layers_with_zero_grads,
        layers_without_grads, frozen_layers: counted apart, for a frozen layer is no sick one. layer_stats: layer ->
        {"norm"}. recommendations: sentences.
        """
        gradients = self._measure()
        stats: dict[str, Any] = {
            "global_grad_norm": gradients.total, "max_grad_norm": gradients.largest, "min_grad_norm": gradients.smallest,
            "mean_grad_norm": gradients.mean, "has_nan": gradients.has_nan, "has_inf": gradients.has_inf,
            "nan_layers": list(gradients.nan), "inf_layers": list(gradients.inf), "nan_count": sum(gradients.nan.values()),
            "inf_count": sum(gradients.inf.values()), "overflow_layers": list(gradients.overflow),
            **self._flow(gradients), "layer_stats": {name: {"norm": norm} for name, norm in gradients.norms.items()},
        }  # fmt: skip
        stats["recommendations"] = list(self._remedies(stats).values())
        self._checks += 1
        self.last_stats = stats
        return stats

    def log_statistics(self, stats: Mapping[str, Any] | None = None, step: int | None = None, logger: Any = None) -> None:
        """Print and log `stats` (the last check, if not given).

        The metrics go to the logger. Every `log_frequency` steps the line of the step is printed; trouble is printed, with
        what to do, when it begins, and from then on as often as the line.
        """
        stats = stats or self.last_stats or self.check_gradients()
        step = self._checks if step is None else int(step)
        due = step % self.log_frequency == 0
        trouble = self._remedies(stats)
        fresh = set(trouble) - self._told
        self._told = set(trouble)
        if due or fresh:
            print(health_line(stats, step))
            for sentence in trouble.values():
                print(f"\n{sentence}")
        logger = logger if logger is not None else self.logger if self.logger is not None else running_wandb()
        if logger is not None:
            log_to(logger, self.metrics(stats, detailed=bool(due or fresh or not self._logged)), step)
            self._logged = True

    def metrics(self, stats: Mapping[str, Any], *, detailed: bool = True) -> dict[str, float]:
        """`stats` under the names that go to loggers: grad/global_norm … grad/has_inf, and grad_layer/* if enabled."""
        found = {
            "grad/global_norm": stats["global_grad_norm"], "grad/max_norm": stats["max_grad_norm"],
            "grad/min_norm": stats["min_grad_norm"], "grad/mean_norm": stats["mean_grad_norm"],
            "grad/has_nan": int(stats["has_nan"]), "grad/has_inf": int(stats["has_inf"]),
        }  # fmt: skip
        if self.enable_detailed_logging and detailed:
            found |= {f"grad_layer/{name}": layer["norm"] for name, layer in stats["layer_stats"].items()}
        return found

    def apply_gradient_clipping(self, max_norm: float | None = None) -> float:
        """Scale all gradients so that their norm is at most `max_norm` (grad_clip_threshold); the norm before.

        Nothing is scaled if the norm is not finite: that would spread the NaN to every layer.
        """
        limit = self.grad_clip_threshold if max_norm is None else max_norm
        positive(max_norm=limit)
        total = self._measure().total
        if math.isfinite(total) and total > limit:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            with torch.no_grad():
                for group in _alike(gradients):
                    torch._foreach_mul_(group, limit / (total + CLIP_EPS))
        return total

    def get_gradient_flow_summary(self) -> dict[str, Any]:
        """Which layers get how much: the lists of `check_gradients`, and layers_with_healthy_grads."""
        return self._flow(self._measure())

    def recommendations(self, stats: Mapping[str, Any] | None = None) -> list[str]:
        """What to do about `stats` (the last check, if not given): sentences, the worst first; none if all is well."""
        return list(self._remedies(stats or self.last_stats or self.check_gradients()).values())

    def _remedies(self, stats: Mapping[str, Any]) -> dict[str, str]:
        return remedies(stats, self.vanishing_threshold, self.exploding_threshold)

    def _measure(self) -> Gradients:
        return self._measured(self.model)

    def _flow(self, gradients: Gradients) -> dict[str, Any]:
        norms = gradients.norms
        vanishing = [name for name, norm in norms.items() if 0 < norm < self.vanishing_threshold]
        exploding = [name for name, norm in norms.items() if norm > self.exploding_threshold]
        sick = {*vanishing, *exploding, *gradients.zero, *gradients.nan, *gradients.inf}
        return {
            "layers_with_vanishing_grads": vanishing, "layers_with_exploding_grads": exploding,
            "layers_with_healthy_grads": [name for name, norm in norms.items() if name not in sick and math.isfinite(norm)],
            "layers_with_zero_grads": list(gradients.zero), "layers_without_grads": list(gradients.absent),
            "frozen_layers": list(gradients.frozen),
        }  # fmt: skip


def _alike(tensors: list[Tensor]) -> list[list[Tensor]]:
    """In groups that one multi-tensor operation takes."""
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for tensor in tensors:
        key = (tensor.device, tensor.dtype, tensor.layout, getattr(tensor, "device_mesh", None))
        groups.setdefault(key, []).append(tensor)
    return list(groups.values())
