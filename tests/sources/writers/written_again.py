"""The rows of logs of JSON lines, logged again by a logger that people use, one directory each: DIR WRITER DIR LOG DIR LOG …"""

import json
import os
import sys
from pathlib import Path

directory, writer, *pairs = sys.argv[1:]
os.environ |= {
    "WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
    "TRACKIO_DIR": directory,
}  # fmt: skip


def metrics(row):
    return {k: v for k, v in row.items() if k != "step"}


def summary_writer(base, rows):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(base) as summary:
        for row in rows:
            for name, value in metrics(row).items():
                summary.add_scalar(name, value, row["step"])


def lightning(base, rows):
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(base, flush_logs_every_n_steps=10)
    for row in rows:
        logger.log_metrics(metrics(row), row["step"])
        logger.save()
    logger.finalize("success")


def wandb(base, rows):
    import wandb

    with wandb.init(project="test", dir=base) as run:
        for row in rows:
            run.log(row)


def mlflow(base, rows):
    import mlflow

    mlflow.set_tracking_uri(f"file:{base}/mlruns")
    with mlflow.start_run():
        for row in rows:
            mlflow.log_metrics(metrics(row), step=row["step"])


def transformers(base, rows):
    from transformers import TrainerState

    TrainerState(log_history=rows, global_step=rows[-1]["step"]).save_to_json(f"{base}/trainer_state.json")


def trackio(base, rows):
    import trackio

    trackio.init(project="test", name="run", auto_log_cpu=False)
    for row in rows:
        trackio.log(metrics(row), step=row["step"])
    trackio.finish()
    for path in Path(directory).glob("*.db*"):
        path.rename(Path(base) / path.name)


for base, log in zip(pairs[::2], pairs[1::2], strict=True):
    Path(base).mkdir()
    globals()[writer](base, [json.loads(line) for line in Path(log).read_text(encoding="utf-8").splitlines()])
print("\n" + json.dumps(len(pairs) // 2))
