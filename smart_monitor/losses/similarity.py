"""Four similarities over N modalities: from N feature matrices [B_n, d] to logits [B_1, ..., B_N].

No function here builds a tensor of B^N x d elements. Three of them need no more than the N (N - 1) / 2 Gram
matrices [B_n, B_m], because the squared length of a sum is a sum of inner products:
    |f_1 + ... + f_N|^2 = sum_n |f_n|^2 + 2 sum_{n<m} <f_n, f_m>
The fourth, the N-linear product, has no such form; it is one matrix product of the row-wise Kronecker
(Khatri-Rao) products of both halves of the modalities, whose larger one has B^ceil(N/2) x d elements.

All take float32 or float64 and are differentiable. Guards against overflow and zero lengths are `stable.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def multilinear(features: Sequence[Tensor]) -> Tensor:
    """sum_d prod_n f_n[i_n, d]: what `einsum("ad,bd,cd->abc", ...)` gives, in two halves. N = 2: the inner product."""
    half = (len(features) + 1) // 2
    left, right = _khatri_rao(features[:half]), _khatri_rao(features[half:])
    return (left @ right.T).reshape([f.shape[0] for f in features])


def squared_lengths_of_sums(features: Sequence[Tensor]) -> Tensor:
    """|sum_n f_n[i_n]|^2. Rounding can make it a little negative; it is not clamped here."""
    number = len(features)
    total = _along((features[0] * features[0]).sum(-1), (0,), number)
    for n in range(1, number):
        total = total + _along((features[n] * features[n]).sum(-1), (n,), number)
    for n in range(number):
        for m in range(n + 1, number):
            total = total + _along(2 * (features[n] @ features[m].T), (n, m), number)
    return total


def mean_inner_products(features: Sequence[Tensor]) -> Tensor:
    """The mean over the pairs n < m of <f_n[i_n], f_m[i_m]>: of unit vectors, their mean cosine, in [-1, 1]."""
    number = len(features)
    pairs = number * (number - 1) / 2
    total: Tensor | None = None
    for n in range(number):
        for m in range(n + 1, number):
            gram = _along(features[n] @ features[m].T / pairs, (n, m), number)
            total = gram if total is None else total + gram
    assert total is not None
    return total


def resultant_lengths(features: Sequence[Tensor], eps: Tensor) -> Tensor:
    """|mean_n f_n[i_n]|: of unit vectors, their mean resultant length in [0, 1] (Mardia and Jupp, Directional
    Statistics, 2000, section 2.3.1): 1 where all agree. The root is taken of at least `eps`^2, which bounds its slope.
    """
    squared = squared_lengths_of_sums(features) / len(features) ** 2
    return torch.sqrt(squared.clamp_min(eps * eps))


def centroid_distances(features: Sequence[Tensor]) -> Tensor:
    """The mean over n of |f_n[i_n] - centroid|^2, the centroid being the mean of the N vectors; >= 0, 0 where all agree.

    By Huygens' theorem: the mean squared length less the squared length of the mean.
    """
    number = len(features)
    result = squared_lengths_of_sums(features) / -(number**2)
    for n, feature in enumerate(features):
        result = result + _along((feature * feature).sum(-1) / number, (n,), number)
    return result.clamp_min(0.0)


def _along(tensor: Tensor, axes: tuple[int, ...], number: int) -> Tensor:
    """A view of `tensor` whose dimensions are the given ones of `number`, to be broadcast along the others."""
    shape = [1] * number
    for axis, size in zip(axes, tensor.shape, strict=True):
        shape[axis] = size
    return tensor.reshape(shape)


def _khatri_rao(features: Sequence[Tensor]) -> Tensor:
    """[prod B_n, d]: the products of every choice of one row from each."""
    result = features[0]
    for feature in features[1:]:
        result = (result[:, None, :] * feature[None, :, :]).reshape(-1, feature.shape[-1])
    return result
