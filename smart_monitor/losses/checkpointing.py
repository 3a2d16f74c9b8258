"""Gradient checkpointing for modules that were written without it (Chen et al., Training Deep Nets with Sublinear
Memory Cost, 2016): their activations are not kept but computed again during the backward pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def add_gradient_checkpointing(model: nn.Module, modules_to_checkpoint: Sequence[str]) -> list[str]:
    """Checkpoint every submodule of `model` that goes by one of the names; the dotted paths of those that do now.

    A name is an attribute (`transformer`), a dotted path (`encoder.layers.3`) or a class
    (`ResidualAttentionBlock`). Of nested matches the innermost are taken, since an outer one would compute
    everything twice; a list or dictionary of modules stands for what is in it. Outputs, gradients, parameter
    names and `state_dict` stay as they were; what is checkpointed already stays so.

    Raises ValueError, naming the nearest name there is, for a name that nothing goes by.
    """
    named = {path: module for path, module in model.named_modules() if path}
    wanted: set[str] = set()
    for name in modules_to_checkpoint:
        found = [p for p, m in named.items() if name in (p, p.rpartition(".")[2], type(m).__name__)]
        if not found:
            raise ValueError(_unknown(name, named))
        wanted.update(path for f in found for path in _callable_paths(f, named))
    innermost = [p for p in named if p in wanted and not any(other.startswith(f"{p}.") for other in wanted)]
    for path in innermost:
        module = named[path]
        if not isinstance(module.forward, _Checkpointed):
            module.forward = _Checkpointed(module)
    return innermost


class _Checkpointed:
    """The forward of one module, set on the instance: a copy of the model, or one that was pickled, has the copy's own."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._forward: Callable[..., Any] | None = vars(module).get("forward")
        """What others (Accelerate's hooks) have set there before."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = self._module
        forward = self._forward or MethodType(type(module).forward, module)
        if not (module.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _callable_paths(path: str, named: dict[str, nn.Module]) -> list[str]:
    if not isinstance(named[path], nn.ModuleList | nn.ModuleDict):
        return [path]
    children = [p for p in named if p.startswith(f"{path}.") and "." not in p[len(path) + 1 :]]
    return [inner for child in children for inner in _callable_paths(child, named)]


def _unknown(name: str, named: dict[str, nn.Module]) -> str:
    names = {p.rpartition(".")[2] for p in named} | set(named) | {type(m).__name__ for m in named.values()}
    near = difflib.get_close_matches(name, sorted(names), n=1)
    return f"no module goes by {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
