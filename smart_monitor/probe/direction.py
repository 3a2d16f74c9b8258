"""Do consecutive gradients point the same way? Their cosine, without keeping a second copy of them.

A gradient is folded into a vector of 262 144 sums: every run of its elements is multiplied by signs of a fixed random
vector and added up in place. Inner products survive that up to an error of about 1 / sqrt(width) (Charikar,
Chen and Farach-Colton, Finding Frequent Items in Data Streams, 2002, with runs in place of hashes). Models of up
to a million parameters are compared exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from smart_monitor.probe.parameters import Held
from smart_monitor.probe.sampling import Sample

WIDTH = 1 << 18
EXACT = 1 << 20
"""Parameters up to which gradients are compared whole."""
TOTALS = 3


class Direction:
    """Compares the gradients it is shown with those it was shown before. `look` waits for nothing."""

    def __init__(self, held: Sequence[Held], *, sharded: bool = False, exact: bool | None = None, width: int = WIDTH) -> None:
        self._held = [h for h in held if h.parameter.requires_grad]
        elements = sum(h.local(h.parameter).numel() for h in self._held)
        whole = elements <= EXACT if exact is None else exact
        self.names = [h.name for h in self._held]
        self.size = TOTALS + 3 * len(self._held)
        """Length of what `look` gives."""
        self._sample = Sample(self._held, None, sharded=sharded) if whole else Sample(self._held, sharded=sharded)
        self._fold = None if whole else _Fold(self._held, width, sharded=sharded)
        self._before: tuple[Tensor, Tensor | None] | None = None

    def look(self) -> Tensor | None:
        """Sums of products with the gradients of the last look, for `cosines`; None at the first look."""
        sample, folded = self._sample.gradients(), self._fold() if self._fold is not None else None
        before, self._before = self._before, (sample, folded)
        if before is None:
            return None
        rows = [self._sample.sums(product) for product in (sample * before[0], sample.square(), before[0].square())]
        if folded is None or before[1] is None:
            totals = torch.stack([row.sum() for row in rows])
        else:
            totals = torch.stack([folded @ before[1], folded @ folded, before[1] @ before[1]]).to(rows[0])
        return torch.cat([totals, *rows])

    def forget(self) -> None:
        """The next look is the first."""
        self._before = None

    def cosines(self, sums: Sequence[float]) -> tuple[float, dict[str, float]]:
        """(cosine of all, tensor -> its share of the inner product) from what `look` gave.

        The cosine is 0.0 if a gradient is zero, NaN if one is not finite. The shares sum up to the cosine where
        the comparison is exact, else nearly; they say which tensors turned back.
        """
        product, now, before = sums[:TOTALS]
        length = math.sqrt(now) * math.sqrt(before) if now >= 0 and before >= 0 else math.nan
        count = len(self.names)
        products, squares, squares_before = (sums[TOTALS + i * count : TOTALS + (i + 1) * count] for i in range(3))
        whole = math.sqrt(math.fsum(squares)) * math.sqrt(math.fsum(squares_before)) if length == length else math.nan
        shares = {name: p / whole if whole else 0.0 for name, p in zip(self.names, products, strict=True)}
        return (max(-1.0, min(1.0, product / length)) if length else 0.0) if length == length else math.nan, shares


class _Fold:
    """The sketch of a gradient."""

    def __init__(self, held: Sequence[Held], width: int, *, sharded: bool) -> None:
        self._held, self._width = held, width
        random = torch.Generator("cpu").manual_seed(0)
        signs = torch.randint(0, 2, (width,), generator=random, dtype=torch.float32, device="cpu") * 2 - 1
        devices = {h.local(h.parameter).device for h in held}
        self._signs = {device: torch.cat([signs, signs]).to(device) for device in devices}
        self._first = held[0].local(held[0].parameter).device
        self._plans: list[tuple[list[tuple[int, int, int, int]], float]] = []
        for h in held:
            size, pieces = h.local(h.parameter).numel(), []
            for start in range(0, size, width):
                n = min(width, size - start)
                place, turn = torch.randint(0, width, (2,), generator=random, device="cpu").tolist()
                pieces.append((start, n, place % (width - n + 1), turn))
            self._plans.append((pieces, math.sqrt(h.weight) if sharded else 1.0))

    def __call__(self) -> Tensor:
        folded = {device: torch.zeros(self._width, dtype=torch.float32, device=device) for device in self._signs}
        for h, (pieces, factor) in zip(self._held, self._plans, strict=True):
            gradient = h.parameter.grad
            if gradient is None or gradient.is_sparse:
                continue
            flat = h.local(gradient).reshape(-1)
            target, signs = folded[flat.device], self._signs[flat.device]
            for start, n, place, turn in pieces:
                target[place : place + n].addcmul_(flat[start : start + n], signs[turn : turn + n], value=factor)
        found = folded.pop(self._first)
        for other in folded.values():
            found += other.to(self._first, non_blocking=True)
        return found
