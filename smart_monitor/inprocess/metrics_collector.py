"""MetricsCollector: the figures of one training step in a dictionary; and the cosine of two gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smart_monitor.inprocess.measuring import Measure
from smart_monitor.inprocess.numbers import scalar
from smart_monitor.probe.direction import Direction
from smart_monitor.probe.gradients import Gradients
from smart_monitor.probe.parameters import can_learn, held_parameters
from smart_monitor.probe.records import memory_figures
from smart_monitor.probe.weights import Distribution, Updates


class MetricsCollector:
    """Call `collect_step_metrics` after backward and before the optimiser's step.

    Every tenth step is often enough: a call costs about a tenth of a small model's step. Gradients and weights of up to
    a million parameters are compared whole, larger ones by a sketch and a sample of a few megabytes. Each call waits for
    the device; `Probe.step` does not.
    """

    def __init__(self) -> None:
        self._measure = Measure()
        self._known: tuple[int, ...] = ()
        self._direction: Direction | None = None
        self._updates: Updates | None = None
        self._weights: Distribution | None = None
        self._given: Tensor | None = None
        self._cosine = 0.0
        self._ended = 0.0

    def collect_step_metrics(
        self, model: nn.Module, step: int, loss: float | Tensor, gradients: Mapping[str, Tensor | None] | None = None
    ) -> dict[str, Any]:
        """The figures of this step.

        step, loss, timestamp (unix seconds), step_time (since the last call); gradient_norm, max_gradient_norm,
        min_gradient_norm, has_nan, has_inf; gradient_cosine_similarity with the call before (from the second on);
        weight_norm, weight/mean, weight/std, weight/min, weight/max, weight_stability (cosine of the weights
        with those before), update_ratio (|change of the weights since the call before| / |weights|); memory in MB.

        gradients: parameter name -> gradient (or None), in place of those that the model holds.
        """
        now = time.time()
        found: dict[str, Any] = {"step": int(step), "loss": scalar(loss), "timestamp": now}
        if self._ended:
            found["step_time"] = now - self._ended
        self._ended = now
        parameters = tuple(id(p) for p in model.parameters() if can_learn(p))
        if parameters and parameters != self._known:
            self._begin(model, parameters)
        if gradients is not None:
            found |= self._of_given(gradients)
        elif parameters:
            found |= _figures(self._measure(model)) | self._own_cosine()
        if parameters:
            found |= self._of_weights()
            found |= memory_figures(next(model.parameters()).device)
        return found

    def calculate_gradient_cosine_similarity(self) -> float:
        """The cosine of the last two gradients collected, in [-1, 1]; 0.0 before there are two, or if one is zero."""
        return self._cosine

    def _begin(self, model: nn.Module, parameters: tuple[int, ...]) -> None:
        held = held_parameters(model)
        sharded = any(h.distributed for h in held)
        self._known, self._cosine = parameters, 0.0
        trained = [h for h in held if h.parameter.requires_grad]
        self._direction = Direction(held, sharded=sharded) if trained else None
        self._updates = Updates(held, sharded=sharded) if trained else None
        self._weights = Distribution(held, sharded=sharded)

    def _own_cosine(self) -> dict[str, float]:
        sums = self._direction.look() if self._direction is not None else None
        if sums is None or self._direction is None:
            return {}
        self._cosine, _ = self._direction.cosines(sums.tolist())
        return {"gradient_cosine_similarity": self._cosine}

    def _of_given(self, gradients: Mapping[str, Tensor | None]) -> dict[str, Any]:
        plain = {name: _plain(gradients[name]) for name in sorted(gradients) if gradients[name] is not None}
        norms = {name: float(torch.linalg.vector_norm(g, dtype=torch.float64)) for name, g in plain.items()}
        nan = {name: int(g.isnan().sum()) for name, g in plain.items() if not math.isfinite(norms[name])}
        inf = {name: int(g.isinf().sum()) for name, g in plain.items() if not math.isfinite(norms[name])}
        found = _figures(Gradients(norms, nan={k: n for k, n in nan.items() if n}, inf={k: n for k, n in inf.items() if n}))
        flat = torch.cat([g.float().reshape(-1).cpu() for g in plain.values()]) if plain else None
        before, self._given = self._given, flat
        if flat is not None and before is not None and before.shape == flat.shape:
            self._cosine = calculate_gradient_cosine_similarity(flat, before)
            found["gradient_cosine_similarity"] = self._cosine
        return found

    def _of_weights(self) -> dict[str, float]:
        assert self._weights is not None
        sums, ends = self._weights.look()
        found = self._weights.summary(sums.tolist(), ends.tolist())
        if self._updates is not None:
            if self._updates.begun:
                found["update_ratio"], _ = self._updates.ratios(self._updates.after().tolist())
            self._updates.before()
        return found


def calculate_gradient_cosine_similarity(current_gradients: Any, previous_gradients: Any) -> float:
    """The cosine of two gradients: near 1 the same direction, near 0 unrelated, near -1 opposed.

    Arrays, tensors, or sequences and mappings of them (of the same names). In double precision, scaled so that
    nothing overflows. 0.0 if one of them is zero (its norm, exactly), NaN if one is not finite. Raises ValueError
    for gradients of different size.
    """
    current, previous = _vector(current_gradients), _vector(previous_gradients)
    if current.numel() != previous.numel():
        raise ValueError(f"gradients are of one size, not {current.numel()} and {previous.numel()} elements")
    if not (current.isfinite().all() and previous.isfinite().all()):
        return math.nan
    lengths = []
    for vector in (current, previous):
        largest = float(vector.abs().amax()) if vector.numel() else 0.0
        if largest == 0.0:
            return 0.0
        vector /= largest
        lengths.append(float(torch.linalg.vector_norm(vector)))
    return max(-1.0, min(1.0, float(current @ previous) / (lengths[0] * lengths[1])))


def _vector(gradients: Any) -> Tensor:
    """All elements in one vector of doubles, a copy."""
    if isinstance(gradients, Mapping):
        gradients = [gradients[name] for name in sorted(gradients)]
    if isinstance(gradients, list | tuple) and gradients and not isinstance(gradients[0], int | float):
        return torch.cat([_vector(g) for g in gradients])
    return _plain(gradients).to(dtype=torch.float64, device="cpu", copy=True).reshape(-1)


def _plain(gradient: Any) -> Tensor:
    """One gradient as a dense tensor of real numbers: arrays, sparse and complex ones, too."""
    # Not plain numbers: those would become tensors of single precision.
    kind, device = (None, None) if hasattr(gradient, "dtype") else (torch.float64, "cpu")
    tensor = torch.as_tensor(gradient, dtype=kind, device=device).detach()
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _figures(gradients: Gradients) -> dict[str, Any]:
    return {
        "gradient_norm": gradients.total, "max_gradient_norm": gradients.largest, "min_gradient_norm": gradients.smallest,
        "has_nan": gradients.has_nan, "has_inf": gradients.has_inf,
    }  # fmt: skip
