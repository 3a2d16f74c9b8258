"""wandb, offline."""

import json
import math
import os
import sys

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
import wandb

rows = []
with wandb.init(project="test", dir=sys.argv[1]) as run:
    for step in range(30):
        loss = math.nan if step == 13 else 1 / (step + 1)
        run.log({"train/loss": loss, "opt": {"lr": 0.125}, "table": wandb.Histogram([1, 2, 3])})
        rows.append([step, {"loss": loss, "learning_rate": 0.125}])
print(json.dumps(rows))
