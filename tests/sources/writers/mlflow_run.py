"""MLflow, into files or a database."""

import json
import math
import os
import sys

os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
import mlflow

directory, kind = sys.argv[1:3]
mlflow.set_tracking_uri(f"file:{directory}/mlruns" if kind == "files" else f"sqlite:///{directory}/mlflow.db")
rows = []
with mlflow.start_run():
    for step in range(30):
        loss = math.nan if step == 13 else math.inf if step == 14 else 1 / (step + 1)
        mlflow.log_metrics({"train/loss": loss, "lr": 0.125}, step=step)
        rows.append([step, {"loss": loss, "learning_rate": 0.125}])
print(json.dumps(rows))
