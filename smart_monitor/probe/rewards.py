"""Reward pairs, pooled: is a reward model as often right as it is sure? Beside it what chance alone would show.

By Bradley and Terry the chosen answer wins with sigmoid(margin). Confidence max(p, 1 - p) is held against
how often the margin is above 0, over 10 equal bins (Guo et al. 2017). On few pairs a perfect model looks wrong: so
the error is told with the 99 % quantile of what it would be by chance, drawn 200 times from the model's own confidences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smart_monitor.stats.calibration import BINS

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
        self._pool = torch.zeros(0, dtype=torch.float64, device="cpu")
        self._random = torch.Generator("cpu").manual_seed(0)

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
        margins = self._pool.double()
        right = (margins.sign() + 1) / 2
        error, brier = _scores(right[None], confidences(margins), BINS)
        chance, _ = null_calibration(margins, DRAWS, self._random)
        return {
            "calibration_error": float(error),
            "calibration_error_null": float(chance.quantile(LEVEL, interpolation="higher")),
            "calibration_pairs": len(margins),
            "brier_score": float(brier),
            "pair_accuracy": float(right.mean()),
        }


def null_calibration(margins: Tensor, draws: int, generator: torch.Generator, bins: int = BINS) -> tuple[Tensor, Tensor]:
    """(calibration errors, Brier scores) of `draws` outcomes of a perfectly calibrated model that is as sure as this one."""
    sure = confidences(margins)
    won = torch.rand(draws, len(sure), generator=generator, dtype=torch.float64, device="cpu") < sure
    return _scores(won.double(), sure, bins)


def confidences(margins: Tensor) -> Tensor:
    """max(p, 1 - p) of p = sigmoid(margin), in double precision."""
    return torch.sigmoid(margins.double().abs())


def _scores(right: Tensor, sure: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """(calibration error, Brier score) of each row of outcomes [rows, pairs]: 1 is right, 0 wrong, a half a tie.

    The same as `stats.calibration` says of one row, as products of matrices: this runs inside a step of training.
    """
    places = ((sure - 0.5) * 2 * bins).long().clamp(0, bins - 1)
    inside = torch.nn.functional.one_hot(places, bins).double()
    apart = right @ inside - sure @ inside
    return apart.abs().sum(1) / len(sure), (right @ (1 - 2 * sure) + sure.square().sum()) / len(sure)
