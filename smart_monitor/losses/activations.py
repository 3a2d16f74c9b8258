"""Activations with slopes that do not die, as functions or as layers."""

from __future__ import annotations

from typing import overload

from torch import Tensor, nn
from torch.nn import functional


class ImprovedActivations:
    """Each is a function, `ImprovedActivations.gelu(x)`; without a tensor it makes a layer, `ImprovedActivations.gelu()`."""

    @overload
    @staticmethod
    def gelu(x: Tensor) -> Tensor: ...
    @overload
    @staticmethod
    def gelu(x: None = None) -> nn.Module: ...
    @staticmethod
    def gelu(x: Tensor | None = None) -> Tensor | nn.Module:
        """x Phi(x), Phi being the normal distribution function (Hendrycks and Gimpel, 2016)."""
        return nn.GELU() if x is None else functional.gelu(x)

    @overload
    @staticmethod
    def swish(x: Tensor) -> Tensor: ...
    @overload
    @staticmethod
    def swish(x: None = None) -> nn.Module: ...
    @staticmethod
    def swish(x: Tensor | None = None) -> Tensor | nn.Module:
        """x sigmoid(x), also called SiLU (Ramachandran, Zoph and Le, 2017)."""
        return nn.SiLU() if x is None else functional.silu(x)

    @overload
    @staticmethod
    def mish(x: Tensor) -> Tensor: ...
    @overload
    @staticmethod
    def mish(x: None = None) -> nn.Module: ...
    @staticmethod
    def mish(x: Tensor | None = None) -> Tensor | nn.Module:
        """x tanh(softplus(x)) (Misra, 2019)."""
        return nn.Mish() if x is None else functional.mish(x)

    @overload
    @staticmethod
    def leaky_relu(x: Tensor, negative_slope: float = ...) -> Tensor: ...
    @overload
    @staticmethod
    def leaky_relu(x: None = None, negative_slope: float = ...) -> nn.Module: ...
    @staticmethod
    def leaky_relu(x: Tensor | None = None, negative_slope: float = 0.01) -> Tensor | nn.Module:
        """max(x, 0) + negative_slope min(x, 0) (Maas, Hannun and Ng, 2013)."""
        return nn.LeakyReLU(negative_slope) if x is None else functional.leaky_relu(x, negative_slope)
