"""From measurements to the record of a step, under the names that the monitor's rules judge."""

from __future__ import annotations

import math
import os
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from smart_monitor.names import MAX_METRICS
from smart_monitor.probe.direction import Direction
from smart_monitor.probe.gradients import Gradients
from smart_monitor.probe.parameters import layer_names
from smart_monitor.probe.weights import Updates

WINDOW = 50
"""Steps over which the mean and the variance of the norm are told."""
YOUNG = 10
"""First steps of which every layer is told: nobody knows yet what is usual."""
OUT_OF_ORDINARY = 2.0
"""Times (or a hundredth of) the usual norm from which on every layer is told."""
TURNED, TURNED_NAMED = -0.3, 8
"""Cosine below which layers are told that turned back, and how many of them."""
NAMED = 32
"""Layers of one trouble that are named."""
ABSENT = -1.0
"""Stands where a tensor had no gradient."""
BESIDE = MAX_METRICS - 4 * NAMED - 64
"""Metrics that are left to layers in a record: all but those of three troubles and what is no layer's."""


class Layers:
    """Which tensors make which layer, and what has been seen of each."""

    def __init__(self, names: Sequence[str]) -> None:
        self._had_gradient: set[str] = set()
        self.name(names)

    def name(self, names: Sequence[str]) -> None:
        """These are the tensors of the model now."""
        self._layer = dict(zip(names, layer_names(names), strict=True))

    def of(self, name: str) -> str:
        return self._layer.get(name, name)

    def norms(self, gradients: Gradients) -> dict[str, float]:
        """Layer -> L2 norm of its gradients."""
        squares: dict[str, float] = {}
        for name, norm in gradients.norms.items():
            layer = self._layer[name]
            squares[layer] = squares.get(layer, 0.0) + norm * norm
        return {layer: math.sqrt(square) for layer, square in squares.items()}

    def stopped(self, gradients: Gradients) -> list[str]:
        """Tensors that once had a gradient and have none now."""
        self._had_gradient.update(gradients.norms)
        return [name for name in (*gradients.absent, *gradients.frozen) if name in self._had_gradient]

    def named(self, names: Sequence[str]) -> list[str]:
        """Their layers, each once, the first few."""
        return list(dict.fromkeys(self._layer.get(n, n) for n in names))[:NAMED]


class Usual:
    """What the norm usually is: mean and variance of the last steps."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._counts: tuple[int, ...] = ()

    def ordinary(self, norm: float, counts: tuple[int, ...]) -> bool:
        """Is a norm, and are the `counts` of layers in trouble, like those before it? Learns from both."""
        young = len(self._last) < YOUNG
        changed, self._counts = counts != self._counts, counts
        mean = self.mean
        like = math.isfinite(norm) and (mean == 0.0 or 0.01 * mean < norm < OUT_OF_ORDINARY * mean)
        if math.isfinite(norm):
            self._last.append(norm)
        return like and not young and not changed

    @property
    def mean(self) -> float:
        return math.fsum(self._last) / len(self._last) if self._last else 0.0

    @property
    def variance(self) -> float:
        mean = self.mean
        return math.fsum((v - mean) ** 2 for v in self._last) / len(self._last) if self._last else 0.0


class Spread:
    """Mean and variance of each layer's norm over the last steps.

    Told under the layers of `Layers`, or under larger ones where a record cannot hold two more numbers for each.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        taken = len(set(layer_names(names)))
        self._of = layer_names(names, max(1, (BESIDE - taken) // 2))
        self._layers = list(dict.fromkeys(self._of))
        self._last: deque[array[float]] = deque(maxlen=WINDOW)

    def look(self, gradients: Gradients) -> None:
        """Learn from one step, in the time that it takes to copy the norms."""
        norms = gradients.norms
        self._last.append(array("d", [norms.get(name, ABSENT) for name in self._names]))

    def figures(self) -> dict[str, float]:
        """Over the steps at which a layer's norm was a finite number; a layer that had none is left out."""
        if not self._last:
            return {}
        norms = torch.tensor([list(row) for row in self._last], dtype=torch.float64, device="cpu")
        at = {layer: n for n, layer in enumerate(self._layers)}
        places = torch.tensor([at[layer] for layer in self._of], device="cpu")
        absent = norms == ABSENT
        squares, there = (
            torch.zeros(len(norms), len(at), dtype=torch.float64, device="cpu").index_add_(1, places, of)
            for of in (norms.masked_fill(absent, 0.0).square(), (~absent).double())
        )
        of_layers = squares.sqrt()
        counted = (there > 0) & of_layers.isfinite()
        steps = counted.sum(0)
        means = of_layers.where(counted, 0.0).sum(0) / steps
        variances = (of_layers - means).square().where(counted, 0.0).sum(0) / steps
        found: dict[str, float] = {}
        for layer, n, mean, variance in zip(self._layers, steps.tolist(), means.tolist(), variances.tolist(), strict=True):
            if n:
                found[f"grad_layer_mean/{layer}"], found[f"grad_layer_variance/{layer}"] = mean, variance
        return found


def gradient_figures(gradients: Gradients, layers: Layers, usual: Usual, *, all_layers: bool) -> dict[str, Any]:
    """The part of a record that is about gradients."""
    total = gradients.total
    dead, stopped = layers.named(gradients.zero), layers.named(layers.stopped(gradients))
    counts = len(gradients.zero), len(stopped), len(gradients.overflow)
    ordinary = usual.ordinary(total, counts)
    found: dict[str, Any] = {
        "grad_norm": total,
        "grad/max_norm": gradients.largest,
        "grad/min_norm": gradients.smallest,
        "grad/mean_norm": gradients.mean,
        "grad_norm_mean": usual.mean,
        "grad_norm_variance": usual.variance,
        "has_nan": int(gradients.has_nan),
        "has_inf": int(gradients.has_inf),
        "dead_layers": len(dead),
        "stopped_layers": len(stopped),
        "absent_layers": len(gradients.absent),
        "frozen_layers": len(gradients.frozen),
    }
    if gradients.nan or gradients.inf:
        found["grad/nan_count"] = sum(gradients.nan.values())
        found["grad/inf_count"] = sum(gradients.inf.values())
    if gradients.overflow:
        found["grad/overflow"] = len(gradients.overflow)
        found["overflow_in"] = layers.named(gradients.overflow)
    norms = layers.norms(gradients)
    if norms:
        finite = {n: v for n, v in norms.items() if math.isfinite(v)}
        if finite:
            found["largest_in"] = max(finite, key=finite.__getitem__)
    for name in dead:
        found[f"dead_layer/{name}"] = 1
    for name in stopped:
        found[f"stopped_layer/{name}"] = 1
    if all_layers or not ordinary:
        found |= {f"grad_layer/{name}": norm for name, norm in norms.items()}
    return found


def without_infinities(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what is not finite: a step that a loss scaler skips has changed nothing."""
    flags = ("has_nan", "has_inf")
    return {k: v for k, v in figures.items() if k not in flags and not (isinstance(v, float) and not math.isfinite(v))}


def direction_figures(direction: Direction, sums: Sequence[float], layers: Layers) -> dict[str, float]:
    """The cosine, and the layers that turned back most if the gradient as a whole did."""
    cosine, shares = direction.cosines(sums)
    if math.isnan(cosine):
        return {}
    found = {"grad_cosine": cosine}
    if cosine < TURNED:
        merged: dict[str, float] = {}
        for name, share in shares.items():
            merged[layers.of(name)] = merged.get(layers.of(name), 0.0) + share
        worst = sorted((n for n in merged if merged[n] < 0), key=merged.__getitem__)[:TURNED_NAMED]
        found |= {f"grad_cosine_share/{name}": merged[name] for name in worst}
    return found


def update_figures(updates: Updates, sums: Sequence[float], gradients: Gradients, layers: Layers) -> dict[str, Any]:
    """How far the step before moved the weights, and the layers it did not move though they have a gradient."""
    ratio, _ = updates.ratios(sums)
    if math.isnan(ratio):
        return {}
    still = layers.named([name for name in updates.still(sums) if gradients.norms.get(name)])
    found: dict[str, Any] = {"update_ratio": ratio, "still_layers": len(still)}
    return found | {f"still_layer/{name}": 1 for name in still}


def memory_figures(device: torch.device) -> dict[str, float]:
    """Memory in MB of 10^6 bytes: resident of this process, in use on the device and at most so far."""
    found: dict[str, float] = {}
    resident = host_memory_mb()
    if resident is not None:
        found["host_memory_mb"] = resident
    if device.type == "cuda":
        found["device_memory_mb"] = torch.cuda.memory_allocated(device) / 1e6
        found["device_memory_peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return found


def learning_rates(optimizer: Any) -> dict[str, float]:
    """The learning rate, and that of each further group; one that lives on a device is left where it is."""
    found: dict[str, float] = {}
    for at, group in enumerate(getattr(optimizer, "param_groups", ())):
        rate = group.get("lr")
        if hasattr(rate, "device") and rate.device.type != "cpu":
            continue
        if rate is not None:
            found["learning_rate" if at == 0 else f"lr_group/{at}"] = float(rate)
    return found


def batch_size_of(batch: Any) -> int | None:
    """The length of the first tensor in a batch."""
    if hasattr(batch, "shape"):
        return int(batch.shape[0]) if len(batch.shape) else None
    inner = list(batch.values()) if isinstance(batch, Mapping) or hasattr(batch, "values") else batch
    if isinstance(inner, list | tuple):
        for item in inner:
            found = batch_size_of(item)
            if found is not None:
                return found
    return None


def host_memory_mb() -> float | None:
    """Resident memory of this process in MB of 10^6 bytes; None where /proc does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return None
