#!/usr/bin/env python3
"""What telemetry of gradients costs a training step on a CPU: the probe beside what people use instead, in one run.

A transformer of 23 million parameters in 100 tensors, one thread, times of the processor. All of them take turns, each
in steps of its own with bare steps between, so that they meet the same neighbours. Two figures each: of the calls
themselves, and of whole steps against bare ones (noisier; the only one for wandb.watch, which works inside of
backward). The probe's is the mean over its schedule, of each kind of step the median.

Read it beside the floor, which reads every gradient once and does nothing else: a step that is computed in a cache
and a pass through memory do not suffer alike from neighbours. Needs .venv-writers (scripts/test --all makes it).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", WANDB_MODE="offline", WANDB_SILENT="true", WANDB_CONSOLE="off")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from smart_monitor.probe import Probe

BAR = 1.0
PERIOD = 100
"""Steps after which the probe's schedule repeats."""
VOCABULARY, WIDTH, LAYERS, HEADS, LENGTH = 8192, 512, 6, 8, 128
Call = Callable[[torch.Tensor], object]
"""What is done with a step's loss, between backward and the optimiser."""


class Block(nn.Module):
    """A layer of a transformer whose projections have names of their own, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] to the same."""
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        normed = self.norm1(x)
        q, k, v = (layer(normed).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """A small GPT with tied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)  # larger logits saturate, and denormal gradients take thrice the time

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, T] to logits [B, T, vocabulary]."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


class Training:
    """One model that is trained on, whoever watches."""

    def __init__(self, rows: int) -> None:
        torch.manual_seed(0)
        self.model = Model()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.rows = rows

    def step(self, call: Call | None = None) -> tuple[float, float]:
        """Seconds of processor time of (the whole step, the call in it)."""
        tokens = torch.randint(0, VOCABULARY, (self.rows, LENGTH + 1))
        began = time.process_time()
        logits = self.model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        inside = time.process_time()
        if call is not None:
            call(loss)
        inside = time.process_time() - inside
        self.optimizer.step()
        return time.process_time() - began, inside


def floor(model: nn.Module) -> Call:
    """One sum of each gradient, never read: what one pass through memory costs."""

    def call(_: torch.Tensor) -> None:
        for p in model.parameters():
            if p.grad is not None:
                p.grad.sum()

    return call


def loop(model: nn.Module) -> Call:
    """The norm of each parameter, one `.item()` after the other."""

    def call(loss: torch.Tensor) -> None:
        loss.item()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.norm().item()

    return call


def seven(model: nn.Module) -> Call:
    """The loop that gradient monitors are usually made of: seven figures of each parameter."""

    def call(_: torch.Tensor) -> None:
        for p in model.parameters():
            if (g := p.grad) is not None:
                _ = [t.item() for t in (g.norm(), g.max(), g.min(), g.mean(), g.std(), g.isnan().sum(), g.isinf().sum())]

    return call


def lightning(model: nn.Module) -> Call | None:
    """Lightning's grad_norm, read once."""
    try:
        from lightning.pytorch.utilities import grad_norm
    except ImportError:
        return None
    return lambda _: [float(v) for v in grad_norm(model, 2).values()]


def composer(model: nn.Module) -> Call | None:
    """Composer's OptimizerMonitor: the norms that its batch_end takes of gradients, every batch."""
    try:
        from composer.callbacks import OptimizerMonitor
    except ImportError:
        return None
    monitor = OptimizerMonitor(log_optimizer_metrics=False)

    class State:
        pass

    state: Any = State()
    state.model = model

    class Logger:
        def log_metrics(self, metrics: Any) -> None:
            """Takes them."""

    return lambda _: monitor.batch_end(state, Logger())


def over_schedule(seconds: list[float]) -> float:
    """The mean of a call's times at steps 1, 2 …, of each kind of step the median: neighbours make some of them longer.

    A kind: the steps at which the same is due. All that is due repeats every 20 steps but what is so every 50 or 100.
    """
    kinds: dict[int, list[float]] = {}
    for step, value in enumerate(seconds, start=1):
        kinds.setdefault(step if step % 50 == 0 else step % 20 - 20, []).append(value)
    return sum(statistics.median(values) * len(values) for values in kinds.values()) / len(seconds)


def bench(rows: int, rounds: int, every: int, directory: Path) -> float:
    """Print the table for one size of step; what the probe's calls cost, in per cent of a bare step.

    rounds: of a bare step and one with the probe; every so many rounds the others have one, too.
    """
    training = Training(rows)
    for _ in range(3):
        training.step()
    probe = Probe(training.model, training.optimizer, directory)
    calls: dict[str, Call | None] = {
        "probe.step, default schedule": lambda loss: probe.step(loss, batch_size=rows),
        "floor: one pass over the gradients": floor(training.model),
        "loop of norm().item()": loop(training.model),
        "loop of seven figures": seven(training.model),
        "Lightning grad_norm": lightning(training.model),
        "Composer OptimizerMonitor": composer(training.model),
    }
    bare: list[float] = []
    whole: dict[str, list[float]] = {name: [] for name in calls}
    inside: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds):
        bare.append(training.step()[0])
        for at, (name, call) in enumerate(calls.items()):
            if call is not None and (at == 0 or round_ % every == 0):
                seconds = training.step(call)
                whole[name].append(seconds[0])
                inside[name].append(seconds[1])
    parameters, usual = sum(p.numel() for p in training.model.parameters()), statistics.median(bare)
    print(
        f"\n{rows * LENGTH} tokens a step, {parameters / 1e6:.1f} M parameters, a bare step {1e3 * usual:.0f} ms, load"
        f" {os.getloadavg()[0]:.1f}; per cent of a bare step's processor time:\n  {'':<34} {'calls':>8}  {'whole steps':>11}"
    )
    shares: list[float] = []
    for name, call in calls.items():
        if call is None:
            print(f"  {name:<34} not installed")
            continue
        shares.append(100 / usual * (statistics.median(inside[name]) if shares else over_schedule(inside[name])))
        print(f"  {name:<34} {shares[-1]:7.2f} %  {100 * (statistics.median(whole[name]) / usual - 1):+9.1f} %", flush=True)
    probe.close()
    watched(training, len(whole["loop of norm().item()"]), directory)
    return shares[0]


def watched(training: Training, steps: int, directory: Path) -> None:
    """wandb.watch of gradients, at every step and as seldom as it is by default."""
    try:
        import wandb
    except ImportError:
        print(f"  {'wandb.watch':<34} not installed")
        return
    bare = [training.step()[0] for _ in range(steps)]
    with wandb.init(project="bench", dir=str(directory), mode="offline") as run:
        run.watch(training.model, log="gradients", log_freq=1)
        sampled = [training.step(lambda loss: run.log({"loss": float(loss.detach())}))[0] for _ in range(steps)]
        run.unwatch(training.model)
    bare += [training.step()[0] for _ in range(steps)]
    extra = 100 * (statistics.median(sampled) / statistics.median(bare) - 1)
    print(f"  {'wandb.watch, every step':<34} {'':>8}    {extra:+9.1f} %")
    print(f"  {'wandb.watch, every 1000 (default)':<34} {'':>8}    {extra / 1000:+9.1f} %  (a thousandth of it)")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a short run: says whether it works, its figures are rough")
    given = options.parse_args()
    torch.set_num_threads(1)
    shares: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-probe-") as directory:
        for rows in (1, 4):
            shares[rows] = bench(rows, *((PERIOD // 5, 7) if given.quick else (PERIOD, 5)), Path(directory))
    holds = shares[4] <= BAR
    print(f"\nprobe at {4 * LENGTH} tokens: {shares[4]:.2f} % of a step, bar {BAR:g} %: {'holds' if holds else 'TOO MUCH'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
