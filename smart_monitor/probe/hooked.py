"""Gradients that nobody keeps: the optimiser steps inside of backward and frees each one at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from smart_monitor.probe.gradients import GradientMeter, in_parts, norms_of
from smart_monitor.probe.parameters import CannotMeasure, Held


class HookedMeter(GradientMeter):
    """Norms taken by a hook of each parameter the moment its gradient is there; make it before the optimiser's hooks.

    When gradients are accumulated the last micro-batch counts. Elements are never counted: they are gone.
    Raises CannotMeasure where the hooks would not see the gradients that the weights are moved by.
    """

    def __init__(self, model: nn.Module, held: Sequence[Held] | None = None) -> None:
        super().__init__(model, held)
        if self.sharded:
            raise CannotMeasure(
                "in_backward works with whole parameters; with sharded ones let the optimiser step after backward."
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise CannotMeasure(
                "in_backward works on one process; DistributedDataParallel averages gradients after hooks have seen them."
            )
        self._seen: set[int] = set()
        self.broken: Exception | None = None
        self._slots: list[Tensor | None] = [None] * len(self.held)
        for at, each in enumerate(self.held):
            if each.parameter.requires_grad:
                each.parameter.register_post_accumulate_grad_hook(self._hook(at, each))

    def _hook(self, at: int, held: Held) -> Callable[[Tensor], None]:
        def taken(parameter: Tensor) -> None:
            if self.broken is not None or parameter.grad is None:
                return
            try:
                local = held.local(parameter.grad)
                kind = torch.float64 if local.dtype == torch.float64 else torch.float32
                norms = [norms_of([part], kind, in_rows=in_rows)[0] for part, in_rows in in_parts(local)]
                self._slots[at] = (
                    norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack([n.double() for n in norms]))
                )
                self._seen.add(at)
            except Exception as error:  # backward is not ours to break
                self.broken = error

        return taken

    def _sorted(self) -> list[Held]:
        if self.broken is not None:
            raise self.broken
        present = [self.held[at] for at in sorted(self._seen)]
        rest = [h for at, h in enumerate(self.held) if at not in self._seen]
        self.absent_now = tuple(h.name for h in rest if h.parameter.requires_grad)
        self.frozen_now = tuple(h.name for h in rest if not h.parameter.requires_grad)
        return present

    def _whole(self, present: list[Held], sums: Tensor | None) -> list[tuple[list[str], Tensor, int]]:
        kind = torch.float32 if self._device.type == "mps" else torch.float64
        norms = [
            slot.to(self._device, kind, non_blocking=True) for at in sorted(self._seen) if (slot := self._slots[at]) is not None
        ]
        self._seen.clear()
        packed = [torch.stack(norms)] if norms else [torch.zeros(0, dtype=kind, device=self._device)]
        if sums is not None:
            packed.append(sums.to(packed[0]))
        return [([h.name for h in present], torch.cat(packed), 0 if sums is None else sums.numel())]
