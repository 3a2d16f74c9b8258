"""The real training logs that lie beside the checkout (../shared/corpus); half of them have no licence, so none is in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parents[3] / "shared" / "corpus" / "dev"
KINDS = ("hf_trainer_state", "lightning_csv", "keras_csv", "csv", "text", "nan")
"""What they were before they became JSON lines; `nan`: any with a NaN in it."""


def logs() -> list[Path]:
    """All of them. Skips the test where there are none."""
    found = sorted(PLACE.glob("runs/*.jsonl"))
    if not found:
        pytest.skip(f"the corpus of real logs is not there ({PLACE})")
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shortest(kind: str) -> Path:
    """The log of this kind with the fewest rows, of those whose rows have whole steps that never fall."""
    logs()
    with (PLACE / "index.csv").open(encoding="utf-8", newline="") as file:
        index = sorted(csv.DictReader(file), key=lambda row: int(row["n_points"]))
    for row in index:
        if kind == row["format"] or (kind == "nan" and int(row["has_nan"])):
            path = PLACE / "runs" / f"{row['id']}.jsonl"
            steps = [r.get("step") for r in rows_of(path)]
            if all(isinstance(step, int) for step in steps) and steps == sorted(steps):
                return path
    pytest.skip(f"the corpus holds no {kind} log with whole steps")
