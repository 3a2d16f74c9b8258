"""transformers and TRL: gradients before clipping, the loss before the filter that hides NaN, pairs of reward models.

A callback alone would see gradients after clipping and no loss; so the trainer's `training_step` and its accelerator's
`clip_grad_norm_`, which it calls once a step whatever the settings, are listened to as well.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from smart_monitor.probe.attaching import Attached, calling


def attach_to_trainer(trainer: Any, attached: Attached) -> Attached:
    """Listen to a Trainer of transformers or TRL."""
    trainer.add_callback(_Lifecycle(trainer, attached))
    calling(trainer, "training_step", after=lambda loss, _model, inputs, *_, **__: attached.heard(loss, inputs))
    return attached


class _Lifecycle(TrainerCallback):  # type: ignore[misc]  # Any where transformers is not installed
    """Begins and ends with the training, and measures where nobody clips."""

    def __init__(self, trainer: Any, attached: Attached) -> None:
        self._trainer, self._attached = trainer, attached
        self._listened: Any = None
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, accelerator = self._trainer, self._trainer.accelerator
        self._attached.begin(trainer.model_wrapped, trainer.optimizer, args.output_dir, getattr(accelerator, "scaler", None))
        if accelerator is not self._listened:
            self._listened = accelerator
            calling(accelerator, "clip_grad_norm_", before=lambda *_, **__: self._measure())
        if self._hook is None and _has_reward_pairs(trainer):
            self._hook = trainer.model.register_forward_hook(self._pairs)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._measure(metrics={"after_clipping": 1})  # where a trainer clips by other means

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._attached.end()
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _measure(self, **facts: Any) -> None:
        state = self._trainer.state
        self._attached.measure(state.global_step + 1, total=state.max_steps or None, epoch=state.epoch, **facts)

    def _pairs(self, module: Any, _: Any, output: Any) -> None:
        """TRL's RewardTrainer puts the chosen half of a batch before the rejected one."""
        probe, logits = self._attached.probe, getattr(output, "logits", None)
        if probe is not None and module.training and isinstance(logits, torch.Tensor) and logits.shape[0] % 2 == 0:
            chosen, rejected = logits.detach().reshape(logits.shape[0], -1)[:, 0].chunk(2)
            probe.pairs(chosen, rejected)


def _has_reward_pairs(trainer: Any) -> bool:
    return any(base.__name__ == "RewardTrainer" and base.__module__.startswith("trl.") for base in type(trainer).__mro__)
