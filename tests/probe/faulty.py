"""A small real training of a residual network in which one thing goes wrong at step 50, in a known layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from smart_monitor.probe import Probe

BEGINS, STEPS = 50, 100
STEPS_IN_HALF = BEGINS + 4
VOCABULARY, LENGTH = 32, 12


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(functional.relu(self.up(self.norm(x))))


class Model(nn.Module):
    """Next-token prediction from the mean of what came before."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens).cumsum(1) / torch.arange(1, tokens.shape[1] + 1).to(self.embed.weight.dtype)[:, None]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def batches() -> Iterator[torch.Tensor]:
    """Arithmetic sequences, endless, the same in every run."""
    random = torch.Generator().manual_seed(1)
    while True:
        start, step = torch.randint(0, VOCABULARY, (2, 32, 1), generator=random)
        yield (start + (1 + step % 3) * torch.arange(LENGTH + 1)) % VOCABULARY


def explode(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == BEGINS:
        model.blocks[1].down.weight.grad *= 3000


def nan(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == BEGINS:
        model.blocks[2].up.weight.grad[3, 4] = float("nan")


def dead(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == BEGINS:
        with torch.no_grad():
            model.blocks[1].up.bias.fill_(-1e3)  # no unit of the block ever fires again


def reversal(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step >= BEGINS:
        model.blocks[0].up.weight.grad += (-1) ** step * 0.5


def frozen(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == BEGINS:
        optimizer.param_groups[1]["lr"] = 0.0  # the group of blocks.2


def detached(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == BEGINS:
        for p in model.blocks[0].down.parameters():
            p.requires_grad_(False)


def healthy(model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Nothing happens."""


Fault = Callable[[Model, torch.optim.Optimizer, int], None]


def train(directory: Path | None, fault: Fault = healthy, beside: Callable[[int], None] | None = None) -> Model:
    """Train, with a probe if there is a directory; `beside` is called after each step."""
    torch.manual_seed(0)
    model = Model()
    last = list(model.blocks[2].parameters())
    others = [p for p in model.parameters() if not any(p is q for q in last)]
    optimizer = torch.optim.Adam([{"params": others}, {"params": last}], lr=2e-3)
    probe = Probe(model, optimizer, directory) if directory is not None else None
    for step, sequence in zip(range(1, STEPS + 1), batches(), strict=False):
        loss = functional.cross_entropy(model(sequence[:, :-1]).flatten(0, 1), sequence[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        fault(model, optimizer, step)
        if probe is not None:
            probe.step(loss, batch=sequence, total=STEPS)
        optimizer.step()
        if beside is not None:
            beside(step)
    if probe is not None:
        assert probe.trouble == ""
        probe.close()
    return model


def train_in_half(directory: Path, beside: Callable[[int], None] | None = None) -> list[str]:
    """In float16 without a loss scaler, the loss grown ten million times at a step; the tensors with infinite gradients there."""
    torch.manual_seed(0)
    model = Model().half()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    infinite: list[str] = []
    with Probe(model, optimizer, directory) as probe:
        for step, sequence in zip(range(1, STEPS_IN_HALF + 1), batches(), strict=False):
            logits = model(sequence[:, :-1]).flatten(0, 1)
            loss = functional.cross_entropy(logits.float(), sequence[:, 1:].flatten())
            optimizer.zero_grad()
            (loss * (1e7 if step == BEGINS else 1)).backward()
            if step == BEGINS:
                infinite = [n for n, p in model.named_parameters() if p.grad.isinf().any() or p.grad.isnan().any()]
            probe.step(loss, batch=sequence)
            if step != BEGINS:
                optimizer.step()
            if beside is not None:
                beside(step)
    return infinite
