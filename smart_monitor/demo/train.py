"""The demo's trainer: learns characters, and half-way its schedule raises the learning rate fifty-fold.

Nothing is acted: the loss, the gradient norm and the accuracy are those of the model, before and after.

    python -m smart_monitor.demo.train --base-dir DIR [--steps N] [--bad-at N] [--step-seconds S] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from smart_monitor.demo.language_model import LanguageModel, read_text
from smart_monitor.demo.output import save_checkpoint, write_status

STEPS = 110
BAD_AT = 86
STEP_SECONDS = 0.2
LEARNING_RATE = 0.3
MISTAKE = 50
"""The factor by which the schedule is wrong from the bad step on."""
BATCH = 192
HELD_OUT = 300
CHECKPOINT_EVERY = 10
EVALUATE_EVERY = 5


def train(base: Path, steps: int, bad_at: int, step_seconds: float, seed: int) -> None:
    """Train for `steps` steps of at least `step_seconds` each; from `bad_at` on the rate is wrong (0: never)."""
    rng = random.Random(seed)
    training, held_out = read_text()
    exam = rng.sample(held_out, HELD_OUT)
    model = LanguageModel(rng)
    log: list[dict[str, Any]] = []
    accuracy = model.accuracy(exam)
    for step in range(1, steps + 1):
        began = time.monotonic()
        learning_rate = LEARNING_RATE * (MISTAKE if 0 < bad_at <= step else 1)
        loss, grad_norm = model.train_step(rng.sample(training, BATCH), learning_rate)
        if step % EVALUATE_EVERY == 0:
            accuracy = model.accuracy(exam)
        epoch = step * BATCH / len(training)
        row = {"epoch": epoch, "learning_rate": learning_rate, "loss": loss, "grad_norm": grad_norm, "step": step}
        log.append(row)
        if step % CHECKPOINT_EVERY == 0:
            save_checkpoint(base, step, model.tensors(), _trainer_state(step, steps, epoch, log))
        write_status(base, _status(row, steps, accuracy, "training"))
        time.sleep(max(0.0, step_seconds - (time.monotonic() - began)))
    write_status(base, _status(log[-1], steps, accuracy, "completed"))


def _status(row: dict[str, Any], steps: int, accuracy: float, word: str) -> dict[str, Any]:
    return {
        "status": word,
        "current_step": row["step"],
        "total_steps": steps,
        "epoch": row["epoch"],
        "loss": row["loss"],
        "accuracy_percent": accuracy,
        "learning_rate": row["learning_rate"],
        "grad_norm": row["grad_norm"],
        "timestamp": datetime.now().isoformat(),
        "pid": os.getpid(),
    }


def _trainer_state(step: int, steps: int, epoch: float, log: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "best_metric": None,
        "best_model_checkpoint": None,
        "epoch": epoch,
        "global_step": step,
        "is_world_process_zero": True,
        "log_history": log,
        "logging_steps": 1,
        "max_steps": steps,
        "save_steps": CHECKPOINT_EVERY,
        "train_batch_size": BATCH,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m smart_monitor.demo.train", description=__doc__.splitlines()[0])
    parser.add_argument("--base-dir", type=Path, required=True, help="directory of the run; made if it is not there")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps to train (default: %(default)s)")
    parser.add_argument("--bad-at", type=int, default=BAD_AT, help="step of the mistake; 0 for never (default: %(default)s)")
    parser.add_argument(
        "--step-seconds", type=float, default=STEP_SECONDS, help="least seconds a step takes (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and of the batches (default: %(default)s)")
    options = parser.parse_args(arguments)
    train(options.base_dir, options.steps, options.bad_at, options.step_seconds, options.seed)


if __name__ == "__main__":
    main()
