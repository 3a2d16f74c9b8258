"""One call for each framework: `attach(trainer)`, `attach(accelerator, model, optimizer)`.

What is attached never raises into training: a model that cannot be measured is said in one sentence, and nothing
is measured.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from smart_monitor.probe.capture import bytes_of
from smart_monitor.probe.recorder import Probe
from smart_monitor.probe.records import batch_size_of

EARLIER = 32 << 20
"""Bytes of batches up to which those of a step's earlier micro-batches are remembered: memory is the training's."""

_log = logging.getLogger("smart_monitor.probe")


class Attached:
    """A probe that is made when training begins, for the model as it is trained then."""

    def __init__(self, directory: str | os.PathLike[str] | None, options: dict[str, Any]) -> None:
        self.directory, self.options = directory, options
        self.probe: Probe | None = None
        """None before training begins, and if the model cannot be measured."""
        self._losses: list[Tensor] = []
        self._batches: deque[tuple[Any, int]] = deque()
        """Those of the step's micro-batches, and their bytes."""
        self._samples = 0
        self._measured = -1

    def begin(self, model: nn.Module, optimizer: Any, directory: Any, scaler: Any = None) -> None:
        """Make the probe."""
        if self.probe is not None:
            self.probe.close()
        self._measured, self.probe = -1, None
        try:
            self.probe = Probe(model, optimizer, self.directory or directory or ".", scaler=scaler, **self.options)
        except Exception as error:
            _log.warning("The probe does not measure this training: %s", error)

    def heard(self, loss: Any, batch: Any = None) -> None:
        """The loss of a micro-batch, as a share of the step's, before anything filters it."""
        if isinstance(loss, Tensor) and self.probe is not None and len(self._losses) < 10_000:
            self._losses.append(loss.detach())
        if batch is not None and self.probe is not None:
            try:
                self._batches.append((batch, bytes_of(batch)))
                self._samples += batch_size_of(batch) or 0
            except Exception as error:  # a batch is somebody else's object
                _log.debug("A batch cannot be read: %s", error)
            while len(self._batches) > 1 and sum(size for _, size in self._batches) > EARLIER:
                self._batches.popleft()

    def measure(self, step: int, **facts: Any) -> None:
        """Measure this step, once."""
        if self.probe is None or step == self._measured:
            return
        self._measured = step
        losses, self._losses = self._losses, []
        try:
            loss = sum(losses[1:], losses[0]) if losses else None
        except Exception:  # of different shapes or devices: then without
            loss = None
        batches, samples = [batch for batch, _ in self._batches], self._samples
        self._batches.clear()
        self._samples = 0
        batch = batches if len(batches) > 1 else batches[0] if batches else None
        self.probe.step(loss, step=step, batch=batch, batch_size=samples or None, **facts)

    def end(self) -> None:
        """Training is over."""
        if self.probe is not None:
            self.probe.close()


def attach(trainer: Any, *parts: Any, directory: str | os.PathLike[str] | None = None, **options: Any) -> Attached:
    """Measure what `trainer` trains: a transformers or TRL Trainer, a Lightning Trainer, or an Accelerator.

    An Accelerator also takes the prepared model and optimizer. directory: the run's, by default where the trainer writes.
    options: those of `Probe`. Gradients are measured before they are clipped, the loss before any filter. Raises
    TypeError for anything else.
    """
    if hasattr(trainer, "callback_handler") and hasattr(trainer, "training_step"):
        from smart_monitor.probe.huggingface import attach_to_trainer

        return attach_to_trainer(trainer, Attached(directory, options))
    if hasattr(trainer, "clip_grad_norm_") and hasattr(trainer, "prepare"):
        from smart_monitor.probe.accelerated import attach_to_accelerator

        if len(parts) != 2:
            raise TypeError("attach(accelerator, model, optimizer) takes the prepared model and optimizer")
        return attach_to_accelerator(trainer, parts[0], parts[1], Attached(directory, options))
    if hasattr(trainer, "fit") and hasattr(trainer, "callbacks"):
        from smart_monitor.probe.lightning import ProbeCallback

        callback = ProbeCallback(directory, **options)
        trainer.callbacks.append(callback)
        return callback.attached
    raise TypeError(f"attach works with a transformers, TRL or Lightning Trainer or an Accelerator, not {type(trainer).__name__}")


def calling(
    target: Any, name: str, *, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
) -> None:
    """Call `before(*arguments)` and `after(result, *arguments)` around a method of one object; their errors stay with us."""
    original = getattr(target, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            _quietly(before, *args, **kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            _quietly(after, result, *args, **kwargs)
        return result

    setattr(target, name, wrapped)


def _quietly(call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    try:
        call(*args, **kwargs)
    except Exception as error:
        _log.warning("The probe missed a call: %s: %s", type(error).__name__, error)
