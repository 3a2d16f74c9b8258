"""One rank of a training of two: python ranks.py RANK MODE DIRECTORY. Imported: the same training in one process."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from smart_monitor.probe import CannotMeasure, Probe, Schedule

STEPS = 7
SCHEDULE = Schedule(layers=1, direction=2, updates=2, weights=3, spread=3)


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 33), nn.Tanh(), nn.Linear(33, 17), nn.Tanh(), nn.Linear(17, 1))


def batch(step: int) -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


def train(model: nn.Module, probe: Probe | None, rows: slice, mode: str, rank: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if probe is not None:
        probe.optimizer = optimizer
    for step in range(1, STEPS + 1):
        x = batch(step)[rows]
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if mode.endswith("nan") and step == 5:
            poison(model, rank)
        if mode.endswith("fails") and step == 3 and rank == 1:
            probe._meters.direction._sample = None  # so that its next look raises
        if mode.endswith("breaks") and step == 3 and rank == 1:
            probe.optimizer = Broken()
        if probe is not None:
            probe.step(loss, batch=x)
        if not (mode.endswith("nan") and step == 5):
            optimizer.step()


class Broken:
    @property
    def param_groups(self) -> Any:
        raise RuntimeError("no groups here")


def poison(model: nn.Module, rank: int) -> None:
    """Three NaN elements in the second layer, on the rank that holds its last rows."""
    gradient = dict(model.named_parameters())["2.weight"].grad
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    if rank == 1:
        local[-1, :3] = float("nan")


def main(rank: int, mode: str, directory: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    model: Any = fresh()
    if mode.startswith("ddp"):
        model = nn.parallel.DistributedDataParallel(model)
    elif mode == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    rows = slice(4 * rank, 4 * rank + 4)
    try:
        probe = Probe(model, None, directory, schedule=SCHEDULE, in_backward=mode.endswith("backward"))
    except CannotMeasure as refusal:
        train(model, None, rows, mode, rank)
        print(refusal)
    else:
        train(model, probe, rows, mode, rank)
        print(int(probe.on), probe.trouble)
        probe.close()
    leave(rank, directory)


def leave(rank: int, directory: Path) -> None:
    """End together with the other rank, and at once.

    Taking groups and models apart hangs now and then in a busy machine, and a thread of torch's that outlives the group aborts
    an interpreter that ends. Neither is what is tested here.
    """
    sys.stdout.flush()
    (directory / f"done_{rank}").touch()
    patience = time.monotonic() + 60
    while not (directory / f"done_{1 - rank}").exists() and time.monotonic() < patience:
        time.sleep(0.02)
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
