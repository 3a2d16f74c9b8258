"""Similarities that stay finite: zero vectors, values of 1e20, half precision.

Three guards, each for one way to a NaN:
- everything is computed in float32 (float64 stays float64), autocast or not: in float16 a squared length
  overflows from 256 on;
- lengths are taken of vectors scaled by their largest element, so that squares don't overflow, and what is
  divided by is at least `eps`, so that a zero vector stays zero and slopes stay below 1 / eps;
- similarities are computed on features scaled into range, by no more than that takes (one row of 1e20 leaves those
  of 1 their digits), and clamped to [clamp_min, clamp_max].

A NaN stays a NaN: hiding it would hide the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smart_monitor.losses import similarity

EINSUM, NORM, COSINE, DISTANCE = 0, 1, 2, 3
ROOM = {torch.float32: 2.0**50, torch.float64: 2.0**400}
"""Magnitudes that can be squared and summed up over dimensions and modalities."""
MOST = {torch.float32: 2.0**100, torch.float64: 2.0**900}
"""What a similarity is scaled back by at most: far above every bound, and slopes are multiplied by it."""


class StableLossFunctions:
    """The stable operations, for losses of one's own.

    eps: the least length divided by; raised to the smallest normal number of the features' dtype (6e-5 in float16,
    whose slopes end at 65504).
    clamp_min, clamp_max: bounds of every similarity. Raises ValueError for bounds that are no interval.
    """

    def __init__(self, eps: float = 1e-8, clamp_min: float = -100.0, clamp_max: float = 100.0) -> None:
        if not eps > 0:
            raise ValueError(f"eps must be above 0, not {eps}")
        if not clamp_min < clamp_max:
            raise ValueError(f"clamp_min must be below clamp_max, not {clamp_min} and {clamp_max}")
        self.eps, self.clamp_min, self.clamp_max = eps, clamp_min, clamp_max

    def stable_norm(self, x: Tensor, dim: int = -1) -> Tensor:
        """`x` with unit L2 length along `dim`; what is shorter than eps is divided by eps, and zero stays zero."""
        with _full_precision(x):
            (wide,) = _computable(x)
            scale = _scale(wide.detach().abs().amax(dim, keepdim=True))
            scaled = wide / scale
            length = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True)
            # The floor in the scaled unit: a vector of 1e20 is far from it, one of 1e-20 is not scaled.
            return scaled / torch.maximum(length, self._least(x) / scale)

    def stable_logsumexp(self, x: Tensor, dim: int = -1) -> Tensor:
        """log sum exp along `dim`, in float32 at least, the maximum taken out first (as torch.logsumexp does)."""
        with _full_precision(x):
            return torch.logsumexp(*_computable(x), dim)

    def stable_clamp(self, x: Tensor) -> Tensor:
        """`x` within [clamp_min, clamp_max]; NaN stays NaN."""
        return x.clamp(self.clamp_min, self.clamp_max)

    def stable_einsum_similarity(self, *features: Tensor) -> Tensor:
        """sum_d prod_n f_n[i_n, d]: N feature matrices [B_n, d] to [B_1, ..., B_N]."""
        _require_matrices(features)
        with _full_precision(features[0]):
            wide = _computable(*features)
            scales = [_scale(f.detach().abs().amax(-1, keepdim=True)) for f in wide]  # each row has its own: it is a factor
            found = similarity.multilinear([f / s for f, s in zip(wide, scales, strict=True)])
            return self._scaled_back(found, similarity.multilinear(scales))

    def stable_norm_based_similarity(self, *features: Tensor) -> Tensor:
        """|mean_n f_n[i_n]|, the length of the mean: 1 where unit vectors all agree, 0 where they cancel out."""
        _require_matrices(features)
        with _full_precision(features[0]):
            scaled, scale = _in_range(_computable(*features))
            floor = (self._least(scale) / scale).clamp_min(2 * torch.finfo(scale.dtype).tiny ** 0.5)
            return self._scaled_back(similarity.resultant_lengths(scaled, floor), scale)

    def stable_cosine_similarity(self, *features: Tensor) -> Tensor:
        """The mean over all pairs of modalities of their cosine, in [-1, 1]; a zero vector has cosine 0 to all."""
        _require_matrices(features)
        with _full_precision(features[0]):
            return self.stable_clamp(similarity.mean_inner_products(_computable(*map(self.stable_norm, features))))

    def stable_distance_similarity(self, *features: Tensor) -> Tensor:
        """Minus the mean squared distance to the centroid: 0 where all agree, negative elsewhere."""
        _require_matrices(features)
        with _full_precision(features[0]):
            scaled, scale = _in_range(_computable(*features))
            return self._scaled_back(-similarity.centroid_distances(scaled), scale * scale)

    def _scaled_back(self, found: Tensor, factor: Tensor) -> Tensor:
        """May overflow to infinity, which the clamp takes for what it is and which has no slope there."""
        return self.stable_clamp(found * factor.clamp(max=MOST[factor.dtype]))

    def _least(self, x: Tensor) -> float:
        return max(self.eps, torch.finfo(x.dtype).tiny)


@dataclass(frozen=True)
class StableSimilarity:
    """A similarity with its settings; call it with N >= 2 feature matrices [B_n, d] for logits [B_1, ..., B_N]."""

    loss_version: int = NORM
    normalize: bool = True
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.loss_version not in (EINSUM, NORM, COSINE, DISTANCE):
            raise ValueError(f"loss_version is 0 (einsum), 1 (norm), 2 (cosine) or 3 (distance), not {self.loss_version!r}")
        StableLossFunctions(self.eps)

    def __call__(self, *features: Tensor) -> Tensor:
        """The logits, float32 (float64 for float64). Raises ValueError for other shapes, TypeError for integers."""
        stable = StableLossFunctions(self.eps)
        _require_matrices(features)
        if self.normalize and self.loss_version != COSINE:  # which normalises by itself
            features = tuple(stable.stable_norm(f) for f in features)
        return (
            stable.stable_einsum_similarity,
            stable.stable_norm_based_similarity,
            stable.stable_cosine_similarity,
            stable.stable_distance_similarity,
        )[self.loss_version](*features)


def get_stable_loss_function(loss_version: int = NORM, normalize: bool = True, eps: float = 1e-8) -> StableSimilarity:
    """A function from N >= 2 feature matrices [B, d] to logits [B, ..., B] (N times).

    loss_version: 0 the N-linear product (einsum), 1 the length of the mean, 2 the mean pairwise cosine,
    3 minus the mean squared distance to the centroid. normalize: scale each row to unit length first.
    eps: the least length divided by. Raises ValueError for another version or an eps that is not above 0.
    """
    return StableSimilarity(loss_version, normalize, eps)


def _require_matrices(features: Sequence[Tensor]) -> None:
    if len(features) < 2:
        raise ValueError(f"a similarity needs at least 2 feature matrices, not {len(features)}")
    shapes = [tuple(f.shape) for f in features]
    if any(len(s) != 2 for s in shapes) or len({s[1] for s in shapes}) != 1:
        raise ValueError(f"features are matrices [B, d] of one d, not {', '.join(map(str, shapes))}")


def _full_precision(x: Tensor) -> torch.autocast:
    """Autocast would bring the matrix products back to half precision."""
    return torch.autocast(x.device.type, enabled=False)


def _computable(*tensors: Tensor) -> list[Tensor]:
    """In float32; in float64 if one of them is. Raises TypeError for integers."""
    for x in tensors:
        if not x.is_floating_point():
            raise TypeError(f"features are floating point, not {x.dtype}")
    kind = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    return [x.to(kind) for x in tensors]


def _in_range(features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """(features whose squares can be summed up, what they were divided by)."""
    peaks = [f.detach().abs().amax() if f.numel() else f.new_zeros(()) for f in features]
    scale = _scale(torch.stack(peaks).amax(), ROOM[features[0].dtype])
    return [f / scale for f in features], scale


def _scale(largest: Tensor, room: float = 1.0) -> Tensor:
    """What brings `largest` down to `room`, or up to twice as much; 1 for what is smaller, which needs no help.

    A power of two, so that scaling rounds nothing.
    """
    mantissa, _ = torch.frexp(largest)
    return torch.where((largest > room) & largest.isfinite(), largest / (2 * mantissa) / room, 1.0)
