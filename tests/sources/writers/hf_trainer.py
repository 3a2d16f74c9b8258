"""The Hugging Face Trainer: a tiny model, checkpoints, evaluation, TensorBoard; NaN at one step, filtered or not."""

import json
import sys

import torch
from transformers import Trainer, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.calls = 0

    def forward(self, x, labels):
        loss = (self.layer(x) - labels).pow(2).mean()
        if self.training:
            self.calls += 1
            if self.calls == 13:
                loss = loss * float("nan")
        return {"loss": loss, "logits": self.layer(x)}


torch.manual_seed(0)
data = [{"x": torch.randn(4), "labels": torch.randn(1)} for _ in range(64)]
arguments = TrainingArguments(
    output_dir=sys.argv[1], max_steps=20, per_device_train_batch_size=4, logging_steps=2, save_steps=5, eval_strategy="steps",
    eval_steps=10, report_to=["tensorboard"], logging_nan_inf_filter=sys.argv[2] == "filtered", disable_tqdm=False, use_cpu=True,
)  # fmt: skip
trainer = Trainer(Model(), arguments, train_dataset=data, eval_dataset=data[:8])
trainer.train()
trainer.save_state()
print("\n" + json.dumps(trainer.state.log_history))
