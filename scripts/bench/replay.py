#!/usr/bin/env python3
"""Speed and memory of replay, and of reading alone against the standard library's JSON on the same lines."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rig import ROOT, parser

JUDGED_BAR = 30_000
READ_BAR = 400_000
MEMORY_BAR = 40.0
MEASURE = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from smart_monitor.config import Settings
from smart_monitor.replay import replay
path, began, found, records = Path(sys.argv[2]), time.process_time(), 0, 0
for record, outputs in replay(path, Settings()):
    records += 1
    found += len(outputs)
took = time.process_time() - began
print(records / took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, found)
"""
STAGES = """
import sys, time
from itertools import islice
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from smart_monitor.config import Settings
from smart_monitor.engine import Engine
from smart_monitor.registry import rule_classes
from smart_monitor.sources import jsonl
path, most = Path(sys.argv[2]), 50_000

def seconds(things):
    began = time.process_time()
    count = sum(1 for _ in things)
    return (time.process_time() - began) / count

best = [1.0, 1.0, 1.0]
for _ in range(3):
    records = list(islice(jsonl.records(path, "run"), most))
    feed = Engine("run", Settings(), rule_classes()).feed
    took = seconds(islice(jsonl.rows(path), most)), seconds(islice(jsonl.records(path, "run"), most)), seconds(map(feed, records))
    best = [min(pair) for pair in zip(best, took)]
print(*best)
"""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=300_000, help="rows of the log")
    given = options.parse_args()
    rows = 30_000 if given.quick else given.rows
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as directory:
        path = Path(directory) / "metrics.jsonl"
        write(path, rows)
        return measure(path, rows, given.python)


def write(path: Path, rows: int) -> None:
    """A log as trainers write them: five keys a row, seven in every other one."""
    noise = random.Random(0)
    with path.open("w") as file:
        for step in range(rows):
            row = {
                "loss": round(2.5 * (1 + step / 3000) ** -0.15 * noise.gauss(1, 0.02), 4),
                "grad_norm": round(noise.uniform(0.8, 1.2), 6),
                "learning_rate": round(2e-4 * (1 - step / rows), 12),
                "epoch": round(step / 100_000, 5),
                "step": step,
            }
            if step % 2 == 0:
                row["accuracy"] = round(70 + noise.gauss(0, 0.5), 3)
                row["tokens_per_second"] = round(noise.gauss(20_000, 100), 2)
            file.write(json.dumps(row) + "\n")


def measure(path: Path, rows: int, python: str) -> int:
    """Run, print, and judge: 0 if every bar holds."""
    print(f"Replay of {rows} rows, {path.stat().st_size / 1e6:.1f} MB, {python}:")
    output = subprocess.run([python, "-c", MEASURE, str(ROOT), str(path)], check=True, capture_output=True, text=True).stdout
    speed, memory, found = map(float, output.split())
    fine = at_least("records judged", speed, JUDGED_BAR)
    lean = memory <= MEMORY_BAR
    print(f"  {'peak resident memory':<34} {memory:9.1f} MB   bar {MEMORY_BAR:g} MB  {'holds' if lean else 'TOO MUCH'}")
    print(f"  {'findings, incidents, decisions':<34} {found:9.0f}")
    table(path, python)
    ours, theirs = reading(path)
    fine &= at_least("rows read", ours, READ_BAR)
    print(f"  {'json.loads on the same lines':<34} {theirs:9.0f} /s   ratio {ours / theirs:.2f}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"  {'peak resident memory of reading':<34} {own:9.1f} MB")
    return 0 if fine and lean else 1


def table(path: Path, python: str) -> None:
    """Where the time of a record goes: JSON to rows, rows to records under canonical names, records to verdicts."""
    command = [python, "-c", STAGES, str(ROOT), str(path)]
    rows, records, judged = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    print(f"  {'of which':<34} {'us a record':>11} {'a second':>11}")
    for name, took in (("reading (JSON lines)", rows), ("names (rows to records)", records - rows), ("judging", judged)):
        print(f"  {name:<34} {took * 1e6:11.1f} {1 / took:11.0f}")


def reading(path: Path) -> tuple[float, float]:
    """Rows per processor second: ours, and of json.loads line by line; the best of three each, in turn."""
    sys.path.insert(0, str(ROOT))
    from smart_monitor.sources.jsonl import rows

    ours = theirs = 0.0
    for _ in range(3):
        began = time.process_time()
        count = sum(1 for _ in rows(path))
        ours = max(ours, count / (time.process_time() - began))
        began = time.process_time()
        with path.open("rb") as lines:
            count = sum(1 for line in lines if json.loads(line))
        theirs = max(theirs, count / (time.process_time() - began))
    return ours, theirs


def at_least(figure: str, value: float, bar: float) -> bool:
    """Print a rate beside its bar; whether it holds."""
    holds = value >= bar
    print(f"  {figure:<34} {value:9.0f} /s   bar {bar:g} /s  {'holds' if holds else 'TOO SLOW'}", flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(main())
