"""What must hold after every trial, whatever went wrong in it. Each check gives sentences: what does not hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from scripts.soak_runs.trainer import Trainer, stamp
from smart_monitor.snapshots.listing import directories, read_metadata
from smart_monitor.snapshots.verify import verify

TROUBLE = ("nan", "loss_spike", "divergence")
LOUD = ("] [ALERT] ", "] [ERROR] ", "] [WARNING] ")


def violations(trainer: Trainer, out: Path) -> list[str]:
    """Every promise broken."""
    return [*_published(trainer, out), *_foreign(trainer, out), *_silent(out)]


def _published(trainer: Trainer, out: Path) -> Iterator[str]:
    """What is visible is whole, and is what the trainer had completed."""
    for place in directories(out):
        for problem in verify(place):
            yield f"{place.name}: {problem.path}: {problem.what}"
        try:
            document = read_metadata(place)
        except (OSError, ValueError) as error:
            yield f"{place.name}: {error}"
            continue
        digests = {f["path"]: f["sha256"] for f in document["files"]}
        absent = {m["path"] for m in document["missing"] if "path" in m}
        for folder, role in (("model", "checkpoint"), ("last_good", "last_good")):
            noun = document.get(role) or {}
            name = noun.get("name") or ""
            kept = {p.rpartition("/")[2]: d for p, d in digests.items() if p.startswith(f"{folder}/{name}/")}
            if not kept:
                if role == "checkpoint" and not document["missing"]:
                    yield f"{place.name}: no checkpoint, and nothing says why"
                continue
            known = [v for v in trainer.versions.get(name, []) if v.items() >= kept.items()]
            left_out = {p.rpartition("/")[2] for p in absent if p.startswith(f"{folder}/{name}/")}
            if not any(v.keys() - kept.keys() <= left_out for v in known):
                yield f"{place.name}: {folder}/{name} is no version that was ever complete"


def _foreign(trainer: Trainer, out: Path) -> Iterator[str]:
    """Nothing of the trainer's was touched, and nothing published is one of its files."""
    with trainer.lock:
        for path, left in trainer.stamps.items():
            if path.exists() and stamp(path) != left:
                yield f"{path.name} of {path.parent.name} is not as its trainer left it: {left} became {stamp(path)}"
        theirs = {(p.stat().st_dev, p.stat().st_ino) for p in trainer.stamps if p.exists()}
        strange = [p for p in (trainer.base / "current_model").rglob("*") if p.is_file() and p not in trainer.stamps]
    yield from (f"{path.name} in {path.parent.name} was written by somebody else" for path in strange)
    for folder, _, files in os.walk(out / "snapshots"):
        for file in files:
            found = os.lstat(os.path.join(folder, file))
            if (found.st_dev, found.st_ino) in theirs:
                yield f"{folder}/{file} is the trainer's own file"


def _silent(out: Path) -> Iterator[str]:
    """The trouble was seen, and either its snapshot stands or a line that nobody overlooks says why not."""
    events = [json.loads(line) for line in lines(out / "logs" / "events.jsonl")]
    said = lines(out.parent / "said")  # stderr: all that is left where the disk stays full
    if not any(e["event"] == "finding" and e["kind"] in TROUBLE for e in events):
        if not any("] [ALERT] " in line for line in said):
            yield "the trouble was not seen"
        return
    if any(kind in d.name for d in directories(out) for kind in TROUBLE):
        return
    told = [e for e in events if e["event"] == "snapshot" and e["state"] in ("failed", "lost", "published")]
    logged = [line for path in out.glob("logs/smart_monitor_*.log") for line in lines(path)]
    loud = [line for line in logged + said if any(word in line for word in LOUD)]
    if not told or not loud:
        yield "no snapshot of the trouble stands, and nothing loud says so"


def stuck_aloud(out: Path) -> bool:
    """Does an event say why a promise can't be kept yet?"""
    events = [json.loads(line) for line in lines(out / "logs" / "events.jsonl")]
    logged = [line for path in out.glob("logs/smart_monitor_*.log") for line in lines(path)]
    return any(e["event"] == "snapshot" and e["state"] == "failed" for e in events) or any(
        "can't be written" in x for x in logged
    )


def lines(path: Path) -> list[str]:
    """The whole lines of a file; none if it is not there."""
    try:
        return path.read_text(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []


def kept_a_checkpoint(out: Path) -> bool:
    """Does a snapshot of the trouble hold a checkpoint?"""
    for place in directories(out):
        if any(kind in place.name for kind in TROUBLE) and list(place.glob("model/checkpoint-*")):
            return True
    return False
