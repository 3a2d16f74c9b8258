"""trackio, into its local database."""

import json
import os
import sys

os.environ |= {"TRACKIO_DIR": sys.argv[1]}
import trackio

rows = []
trackio.init(project="test", name="run", auto_log_cpu=False)
for step in range(30):
    trackio.log({"train/loss": 1 / (step + 1), "lr": 0.125})
    rows.append([step, {"loss": 1 / (step + 1), "learning_rate": 0.125}])
trackio.finish()
print("\n" + json.dumps(rows))
