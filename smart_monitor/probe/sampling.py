"""Evenly spread elements of every tensor of a model in one flat vector, always the same ones: what is too large to be kept whole.

Of a tensor of n elements every (n // most)-th is taken, all of a small one. Sums of squares over the sample times
n / m are those of the whole, as far as the elements of a tensor are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smart_monitor.probe.parameters import Held

MOST = 1024
"""Elements of a tensor, at most twice as many."""


class Sample:
    """The places of the elements, and sums over them. `most`: elements of a tensor; None: all (an exact copy)."""

    def __init__(self, held: Sequence[Held], most: int | None = MOST, *, sharded: bool = False) -> None:
        self._held = list(held)
        self._strides, counts, factors = [], [], []
        for h in self._held:
            size = _flat(h.local(h.parameter)).numel()
            stride = max(1, size // most) if most else 1
            count = -(-size // stride)
            self._strides.append(stride)
            counts.append(count)
            factors.append((size / count if count else 0.0) * (h.weight if sharded else 1.0))
        self.device = self._held[0].local(self._held[0].parameter).device
        self._counts = counts
        self._tensor = torch.repeat_interleave(torch.arange(len(counts), device="cpu"), torch.tensor(counts, device="cpu")).to(
            self.device
        )
        """For each element of the sample the number of its tensor."""
        self._wide = torch.float32 if self.device.type == "mps" else torch.float64
        self._factors = torch.tensor(factors, dtype=self._wide, device=self.device)

    @property
    def tensors(self) -> int:
        return len(self._held)

    def weights(self) -> Tensor:
        """The elements of the parameters: a flat vector, single precision, a copy."""
        return self._taken([_flat(h.local(h.parameter))[::s] for h, s in zip(self._held, self._strides, strict=True)])

    def gradients(self) -> Tensor:
        """The elements of the gradients; zeros for one that is absent or sparse."""
        parts = []
        for h, stride, count in zip(self._held, self._strides, self._counts, strict=True):
            gradient = h.parameter.grad
            if gradient is None or gradient.is_sparse:
                parts.append(torch.zeros(count, device=h.local(h.parameter).device))
            else:
                parts.append(_flat(h.local(gradient))[::stride])
        return self._taken(parts)

    def sums(self, elements: Tensor) -> Tensor:
        """For each tensor the sum over its elements of the sample, times what one of them stands for."""
        found = torch.zeros(len(self._counts), dtype=self._wide, device=self.device)
        return found.index_add_(0, self._tensor, elements.to(self._wide)) * self._factors

    def _taken(self, parts: list[Tensor]) -> Tensor:
        if len({p.device for p in parts}) > 1:  # a model over several devices
            parts = [p.to(self.device, non_blocking=True) for p in parts]
        return torch.cat([p.to(torch.float32) for p in parts])


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)
