#!/usr/bin/env python3
"""One daemon beside many runs that write their status once a second: processor, memory, and whether anything is missed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rig import Daemon, parser, verdict

RUNS, CPU_BAR, RSS_BAR = 1000, 100.0, 250.0
WARM_UP = 30


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=RUNS, help="runs watched")
    options.add_argument("--seconds", type=int, default=90, help="seconds measured, after half a minute of warming up")
    options.add_argument("--write", metavar="DIR", help="be the trainers of the runs in DIR, for --seconds (used by itself)")
    given = options.parse_args()
    if given.write:
        return write(sorted(Path(given.write).iterdir()), given.seconds)
    runs, seconds, warm = (100, 20, 10) if given.quick else (given.runs, given.seconds, WARM_UP)
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as directory:
        return measure(Path(directory), given.python, runs, seconds, warm)


def write(bases: list[Path], seconds: int) -> int:
    """Replace every status once a second, spread evenly over it; one step each, the loss a little noise around 1.

    Too little for a best model: copies are not what is measured here. Who comes late stays late: no second is shorter.
    """
    paths = [base / "status" / "training_status.json" for base in bases]
    began = time.monotonic()
    for step in range(1, seconds + 1):
        for number, path in enumerate(paths):
            late = time.monotonic() - (began + step + number / len(paths))
            if late < 0:
                time.sleep(-late)
            else:
                began += late
            temporary = f"{path}.tmp"
            loss = 1.0 + ((step * 7919 + number * 104729) % 1000 - 500) / 100000
            with open(temporary, "w") as file:
                file.write(
                    f'{{"status": "training", "current_step": {step}, "total_steps": 1000000, "loss": {loss}, '
                    f'"accuracy_percent": 70.5, "learning_rate": 0.0002, "grad_norm": {1 + loss / 10}}}'
                )
            os.replace(temporary, path)
    return 0


def measure(base: Path, python: str, runs: int, seconds: int, warm: int) -> int:
    """Run, print, and judge."""
    places = [base / "runs" / f"run-{number:04}" for number in range(runs)]
    for place in places:
        (place / "status").mkdir(parents=True)
    command = [sys.executable, __file__, "--write", str(base / "runs"), "--seconds", str(warm + seconds)]
    with Daemon(base, python, arguments=[word for place in places for word in ("--base-dir", str(place))]) as daemon:
        writer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            time.sleep(warm)
            cpu, began, peak, records = daemon.cpu_seconds(), time.monotonic(), 0.0, sum(len(seen(p)) for p in places)
            while time.monotonic() < began + seconds:
                time.sleep(2)
                peak = max(peak, daemon.memory()[0])
            spent, passed = daemon.cpu_seconds() - cpu, time.monotonic() - began
            each = spent / max(1, sum(len(seen(p)) for p in places) - records)
            threads, files = daemon.threads(), daemon.files()
        finally:
            writer.wait()
        time.sleep(2)
        known = [seen(place) for place in places]
    early = sum(step not in steps for steps in known for step in range(1, warm + 1))
    missed = sum(step not in steps for steps in known for step in range(warm + 1, warm + seconds + 1))
    print(f"{runs} runs of one status a second, {seconds} s, {python}; {threads} threads, {files} open files:")
    print(f"  {'processor for each record':<34} {1000 * each:9.3f} ms")
    fine = verdict("processor", 100 * spent / passed, CPU_BAR * runs / RUNS, "%")
    fine &= verdict("resident memory at its peak", peak, RSS_BAR, "MB")
    print(f"  {f'missed while all began at once, of {runs * warm}':<34} {early:9}")
    return 0 if verdict(f"missed since, of {runs * seconds}", missed, 0, "") and fine else 1


def seen(place: Path) -> set[int]:
    """The steps that stand in a run's journal."""
    files = (place / ".smart_monitor" / "journal").glob("*.jsonl")
    return {
        line["step"] for file in files for line in map(json.loads, file.read_text().splitlines()) if line.get("kind") == "record"
    }


if __name__ == "__main__":
    sys.exit(main())
