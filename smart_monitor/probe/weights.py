"""The weights themselves: how far a step moved them, how they are distributed, whether they stay what they were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from smart_monitor.probe.direction import EXACT
from smart_monitor.probe.parameters import Held
from smart_monitor.probe.sampling import Sample


class Updates:
    """|update| / |weights| of one step of the optimiser, for each tensor: by a sample, exact for small models.

    `before` before the step, `after` behind it; neither waits for anything.
    """

    def __init__(self, held: Sequence[Held], *, sharded: bool = False, exact: bool | None = None) -> None:
        self._held = [h for h in held if h.parameter.requires_grad]
        whole = sum(h.local(h.parameter).numel() for h in self._held) <= EXACT if exact is None else exact
        self.names = [h.name for h in self._held]
        self.size = 2 * len(self._held)
        """Length of what `after` gives."""
        self._sample = Sample(self._held, None, sharded=sharded) if whole else Sample(self._held, sharded=sharded)
        self._before: Tensor | None = None
        # Half-precision weights stand still whenever a step is below their resolution: that says nothing.
        self._telling = {h.name for h in self._held if h.parameter.dtype in (torch.float32, torch.float64)}

    @property
    def begun(self) -> bool:
        return self._before is not None

    def before(self) -> None:
        """Remember the weights as they are."""
        self._before = self._sample.weights()

    def after(self) -> Tensor:
        """Sums of squares of the change since `before` and of the weights before, for `ratios`."""
        before, self._before = self._before, None
        assert before is not None
        moved = self._sample.weights() - before
        return torch.cat([self._sample.sums(moved.square()), self._sample.sums(before.square())])

    def ratios(self, sums: Sequence[float]) -> tuple[float, dict[str, float]]:
        """(of all, of each tensor); 0.0 for weights of zero that did not move, infinite for those that did."""
        count = len(self.names)
        moved, weights = sums[:count], sums[count:]
        each = {name: _ratio(m, w) for name, m, w in zip(self.names, moved, weights, strict=True)}
        return _ratio(math.fsum(moved), math.fsum(weights)), each

    def still(self, sums: Sequence[float]) -> list[str]:
        """Tensors of full precision that did not move at all while others did."""
        moved = dict(zip(self.names, sums, strict=False))
        return [n for n in self.names if moved[n] == 0.0 and n in self._telling] if any(moved.values()) else []


class Distribution:
    """Norm, mean, standard deviation, extremes of all weights, and how far they turned since the last look.

    Of those that are numbers: quantised ones, as of a frozen base under LoRA, are codes.
    """

    SUMS = 6
    """Length of the first that `look` gives, which adds up over ranks; the extremes are this rank's."""

    def __init__(self, held: Sequence[Held], *, sharded: bool = False) -> None:
        held = [h for h in held if _is_number(h.parameter)]
        self._sample = Sample(held, sharded=sharded)
        self._held = [h for h in held if h.local(h.parameter).numel()]
        self._before: Tensor | None = None
        factors = [h.weight if sharded else 1.0 for h in self._held]
        self._factors = torch.tensor(factors, dtype=torch.float64, device=self._sample.device)
        elements = sum(f * h.local(h.parameter).numel() for f, h in zip(factors, self._held, strict=True))
        self._elements = self._factors.new_tensor([elements])  # there already: a copy to a device may wait for it

    def look(self) -> tuple[Tensor, Tensor]:
        """(six sums, [least, greatest]), for `summary`."""
        device = self._sample.device
        parts = [h.local(h.parameter) for h in self._held]
        if parts:
            squares = _at(device, [torch.linalg.vector_norm(p, dtype=_single(p)) for p in parts]).square()
            sums = _at(device, [p.sum(dtype=_single(p)) for p in parts])
            extremes = [torch.aminmax(p) for p in parts]
            ends = torch.stack([_at(device, [e.min for e in extremes]).min(), _at(device, [e.max for e in extremes]).max()])
            totals = torch.stack([(squares * self._factors).sum(), (sums * self._factors).sum()])
        else:  # a rank that holds nothing
            ends, totals = torch.zeros(2, device=device), torch.zeros(2, dtype=torch.float64, device=device)
        now = self._sample.weights()
        before, self._before = self._before, now
        turned = torch.zeros(3, dtype=torch.float64, device=device)
        if before is not None:
            turned = torch.stack([self._sample.sums(v).sum() for v in (now * before, now.square(), before.square())])
        return torch.cat([totals, turned, self._elements]), ends

    @staticmethod
    def summary(sums: Sequence[float], ends: Sequence[float]) -> dict[str, float]:
        """The figures of a record."""
        square, total, product, now, before, count = sums
        mean = total / count if count else 0.0
        found = {
            "weight_norm": math.sqrt(square),
            "weight/mean": mean,
            "weight/std": math.sqrt(max(0.0, square / count - mean * mean)) if count else 0.0,
            "weight/min": ends[0],
            "weight/max": ends[1],
        }
        if now > 0 and before > 0:
            found["weight_stability"] = max(-1.0, min(1.0, product / math.sqrt(now) / math.sqrt(before)))
        return found


def _at(device: torch.device, scalars: Sequence[Tensor]) -> Tensor:
    return torch.stack([s.detach().to(device, non_blocking=True).double() for s in scalars])


def _single(part: Tensor) -> torch.dtype:
    return torch.float64 if part.dtype == torch.float64 else torch.float32


def _is_number(parameter: Tensor) -> bool:
    kind = parameter.dtype
    return kind.is_complex or (kind.is_floating_point and kind.itemsize > 1)


def _ratio(moved: float, weights: float) -> float:
    if moved != moved or weights != weights:
        return math.nan
    return math.sqrt(moved) / math.sqrt(weights) if weights > 0 else (math.inf if moved > 0 else 0.0)
