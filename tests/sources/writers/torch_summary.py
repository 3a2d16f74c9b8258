"""torch's SummaryWriter: scalars, and what is none beside them."""

import json
import math
import sys

import torch
from torch.utils.tensorboard import SummaryWriter

rows = []
with SummaryWriter(sys.argv[1]) as writer:
    for step in range(30):
        loss = math.nan if step == 13 else 1 / (step + 1)
        writer.add_scalar("train/loss", loss, step)
        writer.add_scalar("train/lr", 0.125, step, new_style=step % 2 == 0)
        writer.add_histogram("weights", torch.randn(50), step)
        row = {"loss": loss, "learning_rate": 0.125}
        if step % 10 == 9:
            writer.add_scalar("val/loss", step / 8, step)
            rows.append([step, row])
            row = {"eval_loss": step / 8}
        rows.append([step, row])
print(json.dumps(rows))
