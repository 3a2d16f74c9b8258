"""Lightning: a callback, or a mixin of a module. Both measure after AMP's unscaling and before clipping, once a step."""

from __future__ import annotations

import os
from typing import Any

from smart_monitor.probe.attaching import Attached

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as missing:
    if missing.name != "lightning":
        raise
    from pytorch_lightning import Callback


class ProbeCallback(Callback):  # type: ignore[misc]  # Any where Lightning is not installed
    """`Trainer(callbacks=[ProbeCallback()])`. directory: if not given the trainer's `default_root_dir`; options: of `Probe`."""

    def __init__(self, directory: str | os.PathLike[str] | None = None, **options: Any) -> None:
        super().__init__()
        self.attached = Attached(directory, options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        optimizer = trainer.optimizers[0] if trainer.optimizers else None
        self.attached.begin(pl_module, optimizer, trainer.default_root_dir, _scaler(trainer))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.attached.heard(None, batch)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        scale = getattr(_scaler(trainer), "_scale", None)
        self.attached.heard(loss if scale is None else loss.detach() / scale)  # Lightning has already scaled it

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self.attached.measure(trainer.global_step + 1, total=total, epoch=trainer.current_epoch)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.attached.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.attached.end()


class ProbeMixin:
    """`class MyModule(ProbeMixin, LightningModule)`: the module brings its callback along.

    `probe_options`, a class attribute: directory and options of `Probe`.
    """

    probe_options: dict[str, Any] = {}  # noqa: RUF012  # meant to be replaced by a class of its own

    def configure_callbacks(self) -> list[Any]:
        """The probe's callback beside those of the module."""
        others = super().configure_callbacks()  # type: ignore[misc]  # LightningModule stands behind
        return [*(others if isinstance(others, list | tuple) else [others]), ProbeCallback(**self.probe_options)]


def _scaler(trainer: Any) -> Any:
    return getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
