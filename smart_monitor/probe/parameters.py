"""The parameters of a model as the probe sees them: their names, what each rank holds of them, what cannot be measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

MAX_LAYERS = 256
"""Layers told apart in a record; with more tensors their modules are told, then the modules around those."""
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


class CannotMeasure(ValueError):
    """One sentence about what the probe cannot do with this model."""


@dataclass(frozen=True, slots=True)
class Held:
    """One parameter, and what of it this rank holds."""

    name: str
    parameter: nn.Parameter
    weight: float
    """The sum over all ranks of weight x local sum of squares is the sum of squares of the whole tensor."""
    distributed: bool
    """Is it a DTensor?"""

    def local(self, tensor: Tensor) -> Tensor:
        """The part of `tensor` (the parameter, its gradient) that lies here, as plain numbers that can be reduced."""
        if self.distributed:
            tensor = tensor.to_local()
        if tensor.requires_grad:
            tensor = tensor.detach()
        if tensor.is_sparse:
            tensor = tensor.coalesce().values()
        return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def held_parameters(model: nn.Module) -> list[Held]:
    """The parameters of a model under the names its author knows, without empty and lazy ones. Raises CannotMeasure."""
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    found = []
    prefix = "module." if type(model).__name__ in ("DistributedDataParallel", "DataParallel") else ""
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise CannotMeasure("FullyShardedDataParallel (FSDP1) hides its gradients in flat shards; use fully_shard (FSDP2).")
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id"):
            raise CannotMeasure("DeepSpeed ZeRO-3 keeps gradients out of sight; its own gradient norm is in the trainer's log.")
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "")
        if not can_learn(parameter):
            continue
        distributed = hasattr(parameter, "placements")
        weight = _shards(parameter) / world if distributed else 1.0 / world
        found.append(Held(name.removeprefix(prefix), parameter, weight, distributed))
    if not found:
        raise CannotMeasure("The model has no parameters (yet); make the probe when its layers exist.")
    return found


def can_learn(parameter: Tensor) -> bool:
    """Does it hold elements? An empty one is never dead, a lazy one has none yet; DeepSpeed's are elsewhere."""
    return hasattr(parameter, "ds_id") or (not is_lazy(parameter) and parameter.numel() > 0)


def _shards(parameter: Any) -> int:
    """Into how many different parts a DTensor is cut."""
    if any(p.is_partial() for p in parameter.placements):
        raise CannotMeasure("A parameter is a partial DTensor: its value is on no rank; reduce it first.")
    return math.prod(size for size, p in zip(parameter.device_mesh.shape, parameter.placements, strict=True) if p.is_shard())


def layer_names(names: Iterable[str], most: int = MAX_LAYERS) -> list[str]:
    """For each tensor the layer it is told under: itself, or as deep a module around it as leaves at most `most` layers."""
    names = list(names)
    if len(set(names)) <= most:
        return names
    names = [name.rpartition(".")[0] or name for name in names]
    while len(set(names)) > most:
        deepest = max(name.count(".") for name in names)
        if deepest == 0:
            return ["all"] * len(names)
        names = [name.rpartition(".")[0] if name.count(".") == deepest else name for name in names]
    return names
