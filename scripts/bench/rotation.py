#!/usr/bin/env python3
"""A trainer that saves every 300 ms and rotates: is the checkpoint of every finding kept?

50 MB a checkpoint, a NaN with every fifth. First the trainer keeps 5: each snapshot that was decided on must hold a checkpoint,
no further behind the record that fired than the trainer's own rotation reaches. Then it keeps 1, which nobody can always win:
the share that could be held is what `status` shows as well. Last, how soon after its marker a checkpoint is pinned.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rig import ROOT, Daemon, parser, verdict

MANY, BEHIND = 5, 5
SAVE_EVERY, NAN_EVERY = 0.3, 5
PATIENCE = 120.0
PIN_BAR = 1.0
ROOMY = {"SMART_MONITOR_MIN_FREE_GB": "0", "SMART_MONITOR_MIN_FREE_PERCENT": "0", "SMART_MONITOR_SPARE_CHECKPOINTS": "0"}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--saves", type=int, default=60, help="checkpoints that the trainer saves")
    options.add_argument("--size", type=int, default=50, help="MB of each")
    options.add_argument("--directory", type=Path, default="/var/tmp", help="where to work: a real disk")
    given = options.parse_args()
    saves = 20 if given.quick else given.saves
    fine = True
    for keep in (MANY, 1):
        with tempfile.TemporaryDirectory(prefix="bench-rotation-", dir=given.directory) as directory:
            late, told = race(Path(directory), given.python, keep, saves, given.size * 10**6)
            fine &= report(Path(directory), keep, saves, given.size, late, told)
    with tempfile.TemporaryDirectory(prefix="bench-rotation-", dir=given.directory) as directory:
        spans = sorted(pins(Path(directory), given.python, saves // 4, given.size * 10**6))
    print(f"From the marker to the pin, {len(spans)} checkpoints, file events or not as the machine has them")
    fine &= verdict("p50", statistics.median(spans), PIN_BAR, "s")
    verdict("the slowest", spans[-1], PIN_BAR, "s")
    return 0 if fine else 1


def race(base: Path, python: str, keep: int, saves: int, size: int) -> tuple[float, dict[str, Any]]:
    """The longest time in seconds from one save to the next, and what `status` tells in the end."""
    write(base, 0, 0.7)
    (base / "current_model").mkdir()
    longest, last = 0.0, time.monotonic()
    with Daemon(base, python, ROOMY) as daemon:
        for number in range(1, saves + 1):
            save(base / "current_model", number, keep, size)
            write(base, 100 * number, float("nan") if number % NAN_EVERY == 0 else 0.7 + 0.01 * (number % 3))
            time.sleep(max(0.0, last + SAVE_EVERY - time.monotonic()))
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        end = time.monotonic() + PATIENCE
        while pending(base) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(1.5)  # the last one comes to rest, and is held
        daemon.must_live()
        done = subprocess.run(
            [python, "-m", "smart_monitor", "status", "--base-dir", str(base), "--json"],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)["vitals"]["holds"]
    return longest, told


def pins(base: Path, python: str, saves: int, size: int) -> list[float]:
    """Seconds from each checkpoint's last byte until all of it is pinned, saved at any moment of the daemon's rhythm."""
    write(base, 0, 0.7)
    (base / "current_model").mkdir()
    spans = []
    with Daemon(base, python, ROOMY):
        for number in range(1, saves + 1):
            save(base / "current_model", number, MANY, size)
            began = time.monotonic()
            while not any(base.glob(f".smart_monitor/holds/hold-checkpoint-{100 * number}-*/files/trainer_state.json")):
                if time.monotonic() - began > PATIENCE:
                    raise SystemExit(f"checkpoint-{100 * number} was never pinned")
                time.sleep(0.005)
            spans.append(time.monotonic() - began)
            time.sleep(random.uniform(0.5, 1.5))
    return spans


def write(base: Path, step: int, loss: float) -> None:
    path = base / "status" / "training_status.json"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps({"status": "training", "current_step": step, "loss": loss}))
    os.replace(path.with_suffix(".tmp"), path)


def save(folder: Path, number: int, keep: int, size: int) -> None:
    """As the Hugging Face trainer does: in place, the marker last, then the oldest go."""
    place = folder / f"checkpoint-{100 * number}"
    place.mkdir()
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (place / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + bytes([number % 251]) * size)
    (place / "trainer_state.json").write_text(json.dumps({"global_step": 100 * number, "log_history": []}))
    for old in range(1, number - keep + 1):
        shutil.rmtree(folder / f"checkpoint-{100 * old}", ignore_errors=True)


def pending(base: Path) -> bool:
    """Is a promise open, or not even the last NaN seen?"""
    seen = events(base)
    return not any(e["event"] == "snapshot" for e in seen) or any((base / ".smart_monitor" / "intents").glob("*.json"))


def events(base: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (base / "logs" / "events.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return []


def report(base: Path, keep: int, saves: int, size: int, late: float, told: dict[str, Any]) -> bool:
    """Print what was kept; whether that is what was promised."""
    documents = [json.loads(p.read_text()) for p in sorted(base.glob("snapshots/anomaly_*/metadata.json"))]
    lags = [(d["step"] - d["checkpoint"]["step"]) / 100 for d in documents if d["checkpoint"]]
    torn = [d["snapshot_name"] for d in documents if not is_whole(base, d)]
    lost = sum(e["event"] == "snapshot" and e["state"] in ("lost", "failed") for e in events(base))
    near = sum(lag <= BEHIND for lag in lags)
    print(f"{saves} saves of {size} MB, every {SAVE_EVERY:g} s (longest pause {late:.2f} s), the trainer keeps {keep}")
    print(f"  snapshots decided on {len(documents)}, with a checkpoint {len(lags)}, torn {len(torn)}, lost or failed {lost}")
    print(f"  behind the record that fired, in saves: {' '.join(f'{lag:g}' for lag in lags)}")
    print(f"  held in time {told['kept']} of {told['met']} checkpoints seen ({told['kept'] / max(1, told['met']):.0%})")
    if keep == 1:
        return not torn
    holds = bool(documents) and near == len(documents) and not torn and not lost
    print(f"  every flagged one kept   {near} of {len(documents)}   {'holds' if holds else 'FAILS'}", flush=True)
    return holds


def is_whole(base: Path, document: dict[str, Any]) -> bool:
    """Does the kept checkpoint hold one save's bytes, from the first to the last?"""
    found = document["checkpoint"]
    if not found:
        return True
    content = (base / "snapshots" / document["snapshot_name"] / "model" / found["name"] / "model.safetensors").read_bytes()
    weights = content[8 + struct.unpack("<Q", content[:8])[0] :]
    return set(weights) == {found["step"] // 100 % 251}


if __name__ == "__main__":
    sys.exit(main())
