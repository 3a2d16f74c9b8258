"""Snapshots for tests, written in one go: what the worker would have published, at any time of the past."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.listing import Best, Snapshot, Stored
from smart_monitor.snapshots.names import directory_name

DAY = 86400.0
NOW = 1_763_000_000.0
WEIGHTS = "model/checkpoint-{step}/model.safetensors"


def made(
    out: Path, reason: str = "nan", *, at: float = NOW, step: int = 100, files: Mapping[str, bytes] | None = None,
    name: str | None = None, value: float | None = None, **more: Any,
) -> Path:  # fmt: skip
    """A whole snapshot below `out`/snapshots with that content; its kind is the reason without its number."""
    path = out / "snapshots" / (name or directory_name(at, reason))
    contents = dict(files if files is not None else {WEIGHTS.format(step=step): reason.encode() * 50})
    contents["training_status.json"] = b'{"step": %d}' % step
    listed = []
    for relative, content in contents.items():
        (path / relative).parent.mkdir(parents=True, exist_ok=True)
        (path / relative).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        listed.append({"path": relative, "bytes": len(content), "sha256": digest, "how": "copy"})
    kind = "best_model" if reason.startswith("best_model") else re.sub(r"_[0-9.]+pct$", "", reason)
    document = {
        "schema": 1, "id": f"id of {path.name}", "timestamp": path.name[8:23],
        "time": datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds"), "reason": reason,
        "snapshot_name": path.name, "run": "run", "attempt": 1, "step": step, "onset_step": step - 10, "loss": 0.5,
        "findings": [{"kind": kind, "metric": "loss", "value": value, "severity": "warning", "message": "so it was"}],
        "checkpoint": {"name": f"checkpoint-{step}", "source": "/runs/r", "step": step, "layout": "hf_trainer"},
        "last_good": None, "rollback": {"resume_from": None, "suspect_steps": [step - 10, step], "text": f"Look at step {step}."},
        "missing": [], "files": listed, "monitor": {"version": "1", "config": {}},
    } | more  # fmt: skip
    (path / "metadata.json").write_text(json.dumps(document, indent=2) + "\n")
    digests = {f["path"]: f["sha256"] for f in listed}
    digests["metadata.json"] = hashlib.sha256((path / "metadata.json").read_bytes()).hexdigest()
    (path / sums.NAME).write_bytes(sums.render(digests))
    for folder, _, names in os.walk(path, topdown=False):
        for each in [*names, "."]:
            os.utime(os.path.join(folder, each), (at, at))
    return path


def noun(name: str, days: float = 0.0, kind: str = "nan", **more: Any) -> Snapshot:
    """A snapshot `days` old at NOW, of one gibibyte unless told otherwise."""
    more.setdefault("files", (Stored(1, hash(name), 2**30),))
    if kind == "best_model":
        more.setdefault("best", Best("loss", 1.0))
    return Snapshot(
        name=name, path=Path(name), time=NOW - days * DAY, reason=kind, step=1, bytes=sum(f.bytes for f in more["files"]),
        kinds=(kind,), checkpoint="c", id=name, **({"weights": True} | more),
    )  # fmt: skip
