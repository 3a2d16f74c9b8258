"""What the demo's trainer leaves on disk: a status file, and checkpoints as Hugging Face's Trainer lays them out."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEEP = 3
"""Checkpoints that rotation leaves, as `save_total_limit=3` would."""

Tensors = Mapping[str, tuple[list[int], "array[float]"]]


def write_status(base: Path, row: Mapping[str, Any]) -> None:
    """Replace BASE/status/training_status.json in one rename; NaN stays bare NaN, as Python trainers write it."""
    path = base / "status" / "training_status.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def save_checkpoint(base: Path, step: int, tensors: Tensors, trainer_state: Mapping[str, Any]) -> None:
    """Write current_model/checkpoint-STEP, trainer_state.json last; then the top-level model; then drop old ones."""
    current = base / "current_model"
    checkpoint = current / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "model.safetensors").write_bytes(to_safetensors(tensors))
    (checkpoint / "trainer_state.json").write_text(json.dumps(trainer_state, indent=2) + "\n", encoding="utf-8")
    temporary = current / ".model.safetensors.tmp"
    temporary.write_bytes(to_safetensors(tensors))
    os.replace(temporary, current / "model.safetensors")
    kept = sorted(current.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for old in kept[:-KEEP]:
        shutil.rmtree(old)


def to_safetensors(tensors: Tensors) -> bytes:
    """The format by hand, it is that simple: length, JSON header, little-endian numbers.

    The library's own writers want numpy or raw pointers, and differ between its versions.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (shape, values) in tensors.items():
        if sys.byteorder == "big":
            values = array("f", values)
            values.byteswap()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * len(values)]}
        body += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
