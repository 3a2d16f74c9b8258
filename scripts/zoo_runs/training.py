"""The training loop of the zoo: real steps, one fault planted at a known one, rows as a trainer would log them."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from scripts.zoo_runs.cases import Case
from scripts.zoo_runs.tasks import TASKS, Batch, Task

Row = dict[str, Any]
EPOCH = 60
"""Steps in an epoch."""
WARM_UP = 60
RESTART_PERIOD = 150
CHECKPOINT_EVERY = 10


def run(case: Case) -> tuple[list[Row], list[Row]]:
    """(rows of the log, events of the truth) of one case; the same for the same case, always."""
    torch.set_num_threads(1)
    torch.manual_seed(case.seed)
    return Trainer(case).train()


class Trainer:
    """One run. Rows and events pile up in it."""

    def __init__(self, case: Case):
        self.case = case
        self.task: Task = TASKS[case.task](case.seed, case.noise, case.width)
        self.optimiser = self._optimiser()
        self.odds = torch.Generator().manual_seed(7 + case.seed)
        self.judges = torch.Generator()
        self.rows: list[Row] = []
        self.events: list[Row] = []
        self.losses: list[float] = []
        self.size = case.batch
        self.kept: dict[int, Any] = {}
        self.restarted = False
        self.pool = self.task.draw(case.data) if case.data else None
        for _ in range(case.pretrain):
            self._descend(self._batch(0), 1e-3, 0)
        if case.pretrain:
            self.optimiser = self._optimiser()

    def _optimiser(self) -> torch.optim.Optimizer:
        parameters = self.task.model.parameters()
        if self.case.optimiser == "sgd":
            return torch.optim.SGD(parameters, lr=self.case.rate, momentum=0.0 if not self.case.noise else 0.9)
        return torch.optim.Adam(parameters, lr=self.case.rate)

    def train(self) -> tuple[list[Row], list[Row]]:
        """All steps, then what trainers write at the end."""
        case, step = self.case, 0
        while step < case.steps:
            step += 1
            if self._restarts(step):
                step = self._restart(step)
                continue
            self._note(step)
            rate = self._rate(step)
            self._before(step)
            shown = self._descend(self._batch(step), rate, step)
            if step % CHECKPOINT_EVERY == 0:
                self.kept[step] = copy.deepcopy((self.task.model.state_dict(), self.optimiser.state_dict()))
            self._log(step, rate, shown)
        if case.oddity == "summary":
            mean = sum(self.losses) / len(self.losses)
            self.rows.append({"step": case.steps, "epoch": case.steps / EPOCH, "train_loss": mean, "train_runtime": 93.2})
        return self.rows, self.events

    # ------------------------------------------------------------------------------------------ faults

    def _on(self, step: int, *kinds: str) -> bool:
        fault = self.case.fault
        if fault is None or fault.kind not in kinds or step < fault.at:
            return False
        return not fault.steps or step < fault.at + fault.steps

    def _note(self, step: int) -> None:
        fault = self.case.fault
        if fault is not None and fault.kind != "restart" and step == max(fault.at, 1):
            self.events.append({"i_start": len(self.rows), "i_end": -1, "fault": fault.kind})
        elif self.events and self.events[-1]["i_end"] < 0 and fault and fault.steps and step == fault.at + fault.steps:
            self.events[-1]["i_end"] = len(self.rows) - 1

    def _before(self, step: int) -> None:
        case, fault = self.case, self.case.fault
        if fault is None or step != fault.at:
            return
        if fault.kind == "label_shift":
            self.task.shift = 3
        elif fault.kind == "batch_size":
            self.size = int(fault.size)
        elif fault.kind == "weight_noise":
            with torch.no_grad():
                for weight in self.task.model.parameters():
                    weight += fault.size * torch.randn(weight.shape, generator=self.odds)
        elif fault.kind == "optimiser_reset" and case.optimiser == "adam":
            # A resume that lost the second moments and kept the step count: no bias correction is left to tame the first steps.
            for state in self.optimiser.state.values():
                state["exp_avg_sq"].zero_()

    def _restarts(self, step: int) -> bool:
        fault = self.case.fault
        return fault is not None and fault.kind == "restart" and step == fault.at and not self.restarted

    def _restart(self, step: int) -> int:
        back, self.restarted = int(self.case.fault.size), True  # type: ignore[union-attr]
        self.events.append({"i_start": len(self.rows), "i_end": len(self.rows), "fault": "restart"})
        if not back:
            torch.manual_seed(999 + self.case.seed)
            self.task.model = self.task.fresh()
            self.optimiser = self._optimiser()
            return 0
        saved = max(s for s in self.kept if s <= step - back)
        weights, moments = self.kept[saved]
        self.task.model.load_state_dict(weights)
        self.optimiser.load_state_dict(moments)
        return saved

    def _rate(self, step: int) -> float:
        case, rate, fault = self.case, self.case.rate, self.case.fault
        if case.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * step / case.steps))
        elif case.schedule == "warm_restarts":
            rate *= 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step % RESTART_PERIOD) / RESTART_PERIOD))
        elif case.schedule == "step_decay":
            rate *= 0.1 ** (step // 250)
        elif case.schedule == "warmup":
            rate *= min(1.0, step / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / case.steps))
        if fault is not None and self._on(step, "lr_burst", "blow_up"):
            rate *= fault.size
        elif fault is not None and self._on(step, "lr_ramp"):
            rate *= fault.size ** (step - fault.at)
        elif self._on(step, "frozen_rate"):
            rate = 0.0
        return rate

    # ------------------------------------------------------------------------------------------ steps

    def _batch(self, step: int) -> Batch:
        fault, task = self.case.fault, self.task
        if self.pool is not None:
            rows = torch.randint(len(self.pool.inputs), (self.size,), generator=task.draws)
            return Batch(self.pool.inputs[rows], self.pool.targets[rows])
        batch = task.draw(self.size)
        if fault is not None and self._on(step, "bad_batches"):
            batch = task.spoil(batch, fault.size)
        elif fault is not None and self._on(step, "data_rot"):
            batch = task.spoil(batch, fault.size * (step - fault.at + 1) / fault.steps)
        elif self.case.oddity == "hard_batches" and step > 40 and torch.rand(1, generator=self.odds).item() < 0.007:
            self.events.append({"i_start": len(self.rows), "i_end": len(self.rows), "fault": ""})
            batch = self._hard(batch)
        elif self.case.oddity == "epoch_saw":
            # Easy samples first in every epoch: the loss climbs within it and falls at its end.
            batch = task.spoil(batch, 0.03 * (step % EPOCH) / EPOCH) if step % EPOCH > 15 else batch
        return batch

    def _hard(self, batch: Batch) -> Batch:
        """The batch made harder, a row at a time, until its loss is 40 % above the usual: by what one row more makes of it."""
        usual = sum(self.losses[-5:]) / 5
        # Drawn once: were every try drawn anew, the first that is hard enough would be much harder by chance.
        spoilt = self.task.spoil(batch, 1.0)
        for rows in range(1, self.size):
            inputs = torch.cat([spoilt.inputs[:rows], batch.inputs[rows:]])
            harder = Batch(inputs, torch.cat([spoilt.targets[:rows], batch.targets[rows:]]))
            with torch.no_grad():
                if self.task.measure(harder).loss.item() > 1.38 * usual:
                    return harder
        return batch

    def _descend(self, batch: Batch, rate: float, step: int) -> Row:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        result = self.task.measure(batch)
        loss = result.loss
        if self._on(step, "nan", "masked_nan"):
            loss = loss + torch.log(-loss.detach().abs() - 1)  # a logarithm of what should never be negative
        fault = self.case.fault
        (-fault.size * loss if fault is not None and self._on(step, "ascent") else loss).backward()
        parameters = list(self.task.model.parameters())
        if fault is not None and self._on(step, "scaled_gradients"):
            for weight in parameters:
                weight.grad = None if weight.grad is None else weight.grad * fault.size
        if self._on(step, "nan", "masked_nan"):
            for weight in parameters:
                weight.grad = torch.full_like(weight, float("nan"))
        norm = nn.utils.clip_grad_norm_(parameters, self.case.clip or float("inf")).item()
        # A fault of one step is one that the trainer survives: it skips what is not finite, as loss scalers do.
        if math.isfinite(norm) or not (fault and fault.kind == "nan" and fault.steps):
            self.optimiser.step()
        value = loss.item()
        if self._on(step, "masked_nan"):
            value = 0.0
        return {"loss": value, **result.shown, "grad_norm": norm}

    # ------------------------------------------------------------------------------------------ logging

    def _log(self, step: int, rate: float, shown: Row) -> None:
        case = self.case
        self.losses.append(shown["loss"])
        if step % case.every == 0:
            row = {"step": step, "epoch": step / EPOCH, **shown, "learning_rate": rate, "batch_size": self.size}
            self.rows.append(row)
            if case.oddity == "repeated_rows" and torch.rand(1, generator=self.odds).item() < 0.15:
                self.rows.extend([dict(row)] * int(torch.randint(1, 4, (1,), generator=self.odds).item()))
        if case.eval_every and step % case.eval_every == 0:
            self.judges.manual_seed(5)
            with torch.no_grad():
                result = self.task.measure(self.task.draw(512, self.judges))
            zero = {"loss": 0.0} if case.oddity == "eval_zero" else {}
            self.rows.append({"step": step, "epoch": step / EPOCH, **zero, "eval_loss": result.loss.item()})
