"""A small training by transformers' own Trainer, run as a process: OUTPUT LAST_STEP [CHECKPOINT to resume from].

Prints the step it began at and a digest of the weights it ended with.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

STEPS = 20


class Line(torch.nn.Module):
    """Learns a line; dropout, so that a resumed random state shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": torch.nn.functional.mse_loss(self.layers(x)[:, 0], labels)}


class Watch(TrainerCallback):
    """Notes the first step, and ends the training as a crash would: without a last checkpoint."""

    def __init__(self, last: int) -> None:
        self.last, self.first = last, -1

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first = state.global_step if self.first < 0 else self.first
        if state.global_step >= self.last:
            raise KeyboardInterrupt


def main(output: str, last: int, resume: str | None) -> None:
    set_seed(1)
    torch.set_num_threads(1)
    data = [{"x": torch.randn(4), "labels": torch.randn(())} for _ in range(64)]
    arguments = TrainingArguments(
        output_dir=output, max_steps=STEPS, save_steps=5, save_total_limit=1, per_device_train_batch_size=4, report_to=[],
        use_cpu=True, disable_tqdm=True, logging_steps=5, seed=1,
    )  # fmt: skip
    watch = Watch(last)
    trainer = Trainer(model=Line(), args=arguments, train_dataset=data, callbacks=[watch])
    try:
        trainer.train(resume_from_checkpoint=resume)
    except KeyboardInterrupt:
        pass
    weights = b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())
    print(f"began at {watch.first}, weights {hashlib.sha256(weights).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
