"""Similarities that stay finite: zero vectors, values of 1e20, half precision.

Three guards, each for one way to a NaN:
- everything is computed in float32 (float64 stays float64), autocast or not: in float16 a squared length
  overflows from 256 on;
- lengths are taken of vectors scaled by their largest element, so that squares don't overflow, and what is
  divided by is at least `eps`, so that a zero vector stays zero and slopes stay below 1 / eps;
- similarities are computed on features scaled into range and clamped to [clamp_min, clamp_max].

A NaN stays a NaN: hiding it would hide the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smart_monitor.losses import similarity

EINSUM, NORM, COSINE, DISTANCE = 0, 1, 2, 3


class StableLossFunctions:
    """The stable operations, for losses of one's own.

    eps: the least length divided by; raised to the smallest normal number of the dtype computed in.
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
            x = _computable(x)
            scale = _scale([x.detach()], dim)
            scaled = x / scale
            length = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True)
            # The floor in the scaled unit: a vector of 1e20 is far from it, one of 1e-20 is not scaled.
            return scaled / torch.maximum(length, self._floor(x) / scale)

    def stable_logsumexp(self, x: Tensor, dim: int = -1) -> Tensor:
        """log sum exp along `dim`, in float32 at least, the maximum taken out first (as torch.logsumexp does)."""
        with _full_precision(x):
            return torch.logsumexp(_computable(x), dim)

    def stable_clamp(self, x: Tensor) -> Tensor:
        """`x` within [clamp_min, clamp_max]; NaN stays NaN."""
        return x.clamp(self.clamp_min, self.clamp_max)

    def stable_einsum_similarity(self, *features: Tensor) -> Tensor:
        """sum_d prod_n f_n[i_n, d]: N feature matrices [B_n, d] to [B_1, ..., B_N]."""
        return self._clamped(similarity.multilinear, features, degree=len(features))

    def stable_norm_based_similarity(self, *features: Tensor) -> Tensor:
        """|mean_n f_n[i_n]|, the length of the mean: 1 where unit vectors all agree, 0 where they cancel out."""
        return self._clamped(lambda f: similarity.resultant_lengths(f, self._least(f[0])), features, degree=1)

    def stable_cosine_similarity(self, *features: Tensor) -> Tensor:
        """The mean over all pairs of modalities of their cosine, in [-1, 1]; a zero vector has cosine 0 to all."""
        return self._clamped(similarity.mean_inner_products, [self.stable_norm(f) for f in features], degree=2)

    def stable_distance_similarity(self, *features: Tensor) -> Tensor:
        """Minus the mean squared distance to the centroid: 0 where all agree, negative elsewhere."""
        return self._clamped(lambda f: -similarity.centroid_distances(f), features, degree=2)

    def _clamped(
        self, formula: Callable[[list[Tensor]], Tensor], features: tuple[Tensor, ...] | list[Tensor], degree: int
    ) -> Tensor:
        """`formula`, homogeneous of `degree`: computed on features scaled into range, scaled back, clamped.

        Scaling back may overflow to infinity, which the clamp takes for what it is and which has no slope there.
        """
        _require_matrices(features)
        with _full_precision(features[0]):
            wide = [_computable(f) for f in features]
            scale = _scale([f.detach() for f in wide])
            found = formula([f / scale for f in wide])
            for _ in range(degree):
                found = found * scale
            return self.stable_clamp(found)

    def _least(self, x: Tensor) -> float:
        return max(self.eps, torch.finfo(x.dtype).tiny)

    def _floor(self, x: Tensor) -> Tensor:
        return torch.tensor(self._least(x), dtype=x.dtype, device=x.device)


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


def _computable(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise TypeError(f"features are floating point, not {x.dtype}")
    return x if x.dtype == torch.float64 else x.float()


def _scale(tensors: list[Tensor], dim: int | None = None) -> Tensor:
    """The largest magnitude if it is above 1, else 1: small numbers need no help, and eps keeps its meaning.

    A power of two, so that scaling rounds nothing.
    """
    if dim is None:
        largest = torch.stack([t.abs().amax() if t.numel() else t.new_zeros(()) for t in tensors]).amax()
    else:
        largest = tensors[0].abs().amax(dim, keepdim=True)
    _, exponent = torch.frexp(largest)
    return torch.ldexp(torch.ones_like(largest), exponent.clamp(0, 126))
