"""Accelerate: loops of one's own around `accelerator.backward`, with or without clipping, with accumulation."""

from __future__ import annotations

from typing import Any

from torch import nn

from smart_monitor.probe.attaching import Attached, calling


def attach_to_accelerator(accelerator: Any, model: nn.Module, optimizer: Any, attached: Attached) -> Attached:
    """Listen to an Accelerator: measured is where it clips, else just before the optimiser's step."""
    attached.begin(model, optimizer, accelerator.project_dir, getattr(accelerator, "scaler", None))
    steps = 0

    def measure(*_: Any, **__: Any) -> None:
        if accelerator.sync_gradients:
            attached.measure(steps + 1)

    def stepped(*_: Any, **__: Any) -> None:
        nonlocal steps
        if accelerator.sync_gradients:
            steps += 1

    def heard(_: Any, loss: Any, *__: Any, **___: Any) -> None:
        attached.heard(loss / accelerator.gradient_accumulation_steps)

    calling(accelerator, "backward", after=heard)
    calling(accelerator, "clip_grad_norm_", before=measure)
    calling(optimizer, "step", before=measure, after=stepped)
    return attached
