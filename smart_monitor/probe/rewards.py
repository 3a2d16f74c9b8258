"""Reward pairs, pooled: is a reward model as often right as it is sure? Beside it what chance alone would show.

By Bradley and Terry the chosen answer wins with sigmoid(margin). Confidence max(p, 1 - p) is held against
how often the margin is above 0, over 10 equal bins (Guo et al. 2017). On few pairs a perfect model looks wrong: so
the error is told with the 99 % quantile of what it would be by chance, drawn 200 times from the model's own confidences.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 10
DRAWS = 200
LEVEL = 0.99
POOL = 1000
"""Pairs that are looked at together, the last ones."""
LEAST = 256
"""Pairs below which nothing is said."""
MOST = 1 << 16
"""Pairs that wait to be looked at."""


class RewardPairs:
    """Collects margins where they are, and judges them on the host."""

    def __init__(self) -> None:
        self._new: list[Tensor] = []
        self._count = 0
        self._pool = torch.zeros(0)
        self._random = torch.Generator().manual_seed(0)

    def add(self, chosen: Tensor, rejected: Tensor, margin: Tensor | None = None) -> None:
        """Rewards of pairs, of one shape; `margin`: what the loss subtracts. Nothing is waited for."""
        difference = (chosen.detach().float() - rejected.detach().float()).reshape(-1)
        if margin is not None:
            difference = difference - margin.detach().float().reshape(-1)
        if self._count < MOST:
            self._new.append(difference)
            self._count += len(difference)

    def taken(self) -> Tensor | None:
        """The margins since the last time, where they are; None of none."""
        new, self._new, self._count = self._new, [], 0
        return torch.cat(new)[-POOL:] if new else None

    def figures(self, margins: Tensor) -> dict[str, float]:
        """What the pool says with these (on the host) added; nothing while it is small."""
        self._pool = torch.cat([self._pool, margins[margins.isfinite()]])[-POOL:]
        if len(self._pool) < LEAST:
            return {}
        sure = torch.sigmoid(self._pool.double().abs())
        right = torch.where(self._pool == 0, 0.5, (self._pool > 0).double())
        places = ((sure - 0.5) * 2 * BINS).long().clamp(0, BINS - 1)
        # A random outcome for each draw and pair: rows of one matrix, summed by bin.
        won = (torch.rand(DRAWS, len(sure), generator=self._random, dtype=torch.float64) < sure).double()
        chance = torch.zeros(DRAWS, BINS, dtype=torch.float64).index_add_(1, places, won - sure).abs().sum(1) / len(sure)
        error = torch.zeros(BINS, dtype=torch.float64).index_add_(0, places, right - sure).abs().sum() / len(sure)
        return {
            "calibration_error": float(error),
            "calibration_error_null": float(chance.quantile(LEVEL, interpolation="higher")),
            "calibration_pairs": len(sure),
            "brier_score": float(((1 - sure).square() * right + sure.square() * (1 - right)).mean()),
            "pair_accuracy": float(right.mean()),
        }
