#!/usr/bin/env python3
"""Reading each format: rows per processor second and peak memory, ours against others' readers on the same file.

Others are measured where they are installed in the interpreter that runs this: pandas, polars, TensorBoard. So is msgspec, which
reads JSON lines for us where it is.
Importing is not counted as reading, but its memory is there and is counted.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rig import ROOT, parser

sys.path.insert(0, str(ROOT))

SCALARS = 4
"""Metrics in a row."""
OURS = """
from smart_monitor.sources import Options, formats
source = next(f for f in formats() if f.name == NAME).open(PATH, "run", "", Options())
began = time.process_time()
rows = sum(1 for _ in source.whole(print))
"""
OTHERS = {
    "jsonl": {
        "ours without msgspec": "sys.modules['msgspec'] = None\n" + OURS,
        "json.loads": "import json\nbegan = time.process_time()\nrows = sum(1 for line in open(PATH, 'rb') if json.loads(line))",
        "pandas": "import pandas\nbegan = time.process_time()\nrows = len(pandas.read_json(PATH, lines=True))",
        "polars": "import polars\nbegan = time.process_time()\nrows = len(polars.read_ndjson(PATH))",
    },
    "csv": {
        "csv.DictReader": "import csv\nbegan = time.process_time()\nrows = sum(1 for _ in csv.DictReader(open(PATH)))",
        "pandas": "import pandas\nbegan = time.process_time()\nrows = len(pandas.read_csv(PATH))",
        "polars": "import polars\nbegan = time.process_time()\nrows = len(polars.read_csv(PATH))",
    },
    "tensorboard": {
        "tensorboard": (
            "from tensorboard.backend.event_processing.event_file_loader import EventFileLoader\n"
            "began = time.process_time()\n"
            f"rows = sum(len(e.summary.value) for e in EventFileLoader(str(PATH)).Load()) / {SCALARS}"
        ),
    },
    "trainer_state": {
        "json.loads": "import json\nbegan = time.process_time()\nrows = len(json.loads(PATH.read_bytes())['log_history'])",
    },
    "text": {},
    "wandb": {},
    "mlflow": {},
}  # fmt: skip
PACKAGES = ("pandas", "polars", "tensorboard")
MEASURE = """
import sys, time
from pathlib import Path
PATH, NAME = Path(sys.argv[2]), sys.argv[3]
sys.path.insert(0, sys.argv[1])
{code}
took = time.process_time() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(rows, took, int(peak.split()[1]) * 1024 / 1e6)
"""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=100_000, help="rows of each file")
    given = options.parse_args()
    rows = 10_000 if given.quick else given.rows
    print(f"{rows} rows of {SCALARS} metrics and a step, {given.python}:")
    print(f"  {'':<30}{'rows/CPU-s':>12}{'ratio':>8}{'peak MB':>9}")
    fine = True
    with tempfile.TemporaryDirectory(prefix="bench-sources-") as directory:
        for name, path in write(Path(directory), rows).items():
            fine &= compare(given.python, name, path, rows)
    return 0 if fine else 1


def compare(python: str, name: str, path: Path, rows: int) -> bool:
    """Measure all readers of one file, print them; did ours read every row?"""
    read, speed, memory = measure(python, OURS, name, path)
    print(f"  {name + ', ours':<30}{speed:>12.0f}{'':>8}{memory:>9.1f}", flush=True)
    for peer, code in OTHERS[name].items():
        if peer in PACKAGES and importlib.util.find_spec(peer) is None:
            print(f"  {name}, {peer}: not installed")
            continue
        theirs = measure(python, code, name, path)
        print(f"  {name + ', ' + peer:<30}{theirs[1]:>12.0f}{speed / theirs[1]:>8.2f}{theirs[2]:>9.1f}", flush=True)
    return read == rows


def measure(python: str, code: str, name: str, path: Path) -> tuple[float, float, float]:
    """(rows, rows per processor second, peak resident MB) of one reader in a process of its own; the best of three."""
    found = []
    for _ in range(3):
        command = [python, "-c", MEASURE.format(code=code), str(ROOT), str(path), name]
        rows, took, memory = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-3:])
        found.append((rows, rows / took, memory))
    return max(found, key=lambda f: f[1])


def write(base: Path, rows: int) -> dict[str, Path]:
    """The same run in each format."""
    from tests.sources import wandb_log
    from tests.sources.events import BEGINNING, event, record

    noise = random.Random(0)
    log = [
        (
            i,
            {
                "loss": noise.gauss(2, 0.1),
                "grad_norm": noise.uniform(0.8, 1.2),
                "learning_rate": 1e-4,
                "accuracy": noise.random(),
            },
        )
        for i in range(rows)
    ]
    files = {name: base / file for name, file in (
        ("jsonl", "m.jsonl"), ("csv", "m.csv"), ("tensorboard", "events.out.tfevents.1.h.1.0"), ("text", "m.log"),
        ("trainer_state", "trainer_state.json"), ("wandb", "m.wandb"), ("mlflow", "mlflow"),
    )}  # fmt: skip
    files["jsonl"].write_text("".join(json.dumps({"step": i, **row}) + "\n" for i, row in log))
    files["csv"].write_text("step,loss,grad_norm,learning_rate,accuracy\n" + "".join(
        ",".join(map(repr, (i, *row.values()))) + "\n" for i, row in log
    ))  # fmt: skip
    with files["tensorboard"].open("wb") as events:
        events.write(BEGINNING)
        for i, row in log:
            events.write(b"".join(record(event(i, {name: value}, 1.7e9 + i)) for name, value in row.items()))
    files["text"].write_text(
        "".join(f"step {i} | " + " | ".join(f"{k} {v:.6g}" for k, v in row.items()) + "\n" for i, row in log)
    )
    files["trainer_state"].write_text(json.dumps({"log_history": [{"step": i, **row} for i, row in log]}))
    with files["wandb"].open("wb") as file:
        file.write(wandb_log.BEGINNING)
        for i, row in log:
            file.write(wandb_log.chunks(wandb_log.history(i, row), file.tell()))
    (files["mlflow"] / "metrics").mkdir(parents=True)
    for name in log[0][1]:
        (files["mlflow"] / "metrics" / name).write_text("".join(f"{1_700_000_000_000 + i} {row[name]!r} {i}\n" for i, row in log))
    return files


if __name__ == "__main__":
    sys.exit(main())
