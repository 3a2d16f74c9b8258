"""What the worker is asked to do: which files go where, and the metadata that will stand beside them."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.model import SCHEMA, Checkpoint, FileStamp, plain
from smart_monitor.snapshots.intents import Intent
from smart_monitor.snapshots.names import shown

_ORDER = (
    "schema", "id", "timestamp", "time", "reason", "snapshot_name", "run", "attempt", "step", "by", "onset_step", "loss",
    "accuracy", "learning_rate", "triggers", "loss_history", "accuracy_history", "best_loss", "best_loss_step", "findings",
    "checkpoint", "last_good", "rollback", "missing", "files", "monitor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """What there is to keep for an intent."""

    checkpoint: Checkpoint | None = None
    model: Checkpoint | None = None
    """The model files that lie beside the checkpoints."""
    wait: str = ""
    """Not empty: not yet, because a checkpoint is still being written."""
    last_good: Checkpoint | None = None
    """The newest good one from before the trouble; it may be `checkpoint` itself."""
    tainted: bool | None = None
    """Was `checkpoint` saved at or after the onset? None: its step tells, or nobody can."""
    lost: str = ""
    """Why a checkpoint that was to be kept is gone, if `checkpoint` is None for that."""
    largest: int = 0
    """Bytes of the largest checkpoint there is: the measure of what the trainer needs for its next ones."""
    missing: tuple[dict[str, Any], ...] = ()
    """What is known not to be kept: {"what" or "path": ..., "why": ...}."""


def job_of(
    intent: Intent, choice: Choice, settings: Settings, out: Path, *, last_resort: bool, largest: int, theirs: set[str]
) -> dict[str, Any]:
    """The job for a worker, as JSON. `largest` (bytes) is the measure of the space that must stay free, `theirs` are
    directories in which nothing may be written wherever links lead.

    In the last resort no reserve is kept and whatever can't be copied is left out with its reason.
    Raises ValueError if a checkpoint noun names files outside itself.
    """
    groups: list[dict[str, Any]] = []
    missing = [dict(m) for m in choice.missing]
    taken: dict[str, FileStamp] = {}
    if choice.checkpoint is not None:
        groups.append(_group(choice.checkpoint, f"model/{_name(choice.checkpoint)}", taken, missing, exact=True))
    elif not any(m.get("what") == "checkpoint" for m in missing):
        missing.append({"what": "checkpoint", "why": intent.why or choice.wait or "no complete checkpoint was found"})
    if choice.last_good is not None and not _same(choice.last_good, choice.checkpoint):
        if intent.changed < 2:
            groups.append(_group(choice.last_good, f"last_good/{_name(choice.last_good)}", taken, missing, exact=True))
        else:  # rather the one than neither
            missing.append({"what": "last_good", "why": intent.why})
    if choice.model is not None:
        # Beside a checkpoint the model files are a courtesy after the second try: they may change all the time.
        required = not last_resort and (choice.checkpoint is None or intent.changed < 2)
        groups.append(_group(_beside(choice.model, choice.checkpoint), "model", taken, missing, exact=False, required=required))
    return {
        "out": str(out.absolute()),
        "folder": str((out / ".smart_monitor").absolute()),
        "name": intent.name,
        "rate": settings.copy_rate_mb * 2**20,
        "gives_way": settings.give_way,
        "reserve": _reserve(settings, largest) if groups and not last_resort else None,
        "status": None if intent.status is None else base64.b64encode(intent.status).decode(),
        "missing": plain(missing),
        "groups": groups,
        "theirs": sorted(theirs),
        "document": document(intent, choice),
    }


def _reserve(settings: Settings, largest: int) -> dict[str, float]:
    return {
        "bytes": settings.spare_checkpoints * largest,
        "floor": settings.min_free_gb * 2**30,
        "percent": settings.min_free_percent,
    }


def _same(one: Checkpoint, other: Checkpoint | None) -> bool:
    return other is not None and (one.origin, one.completed) == (other.origin, other.completed)


def _beside(model: Checkpoint, kept: Checkpoint | None) -> Checkpoint:
    """The model files without the one that is the checkpoint itself: of that a copy may be held, which is another inode."""
    if kept is None:
        return model
    itself = (kept.origin, kept.bytes, kept.completed)
    rest = (s for s in model.files if (os.path.join(model.path, s.path), s.bytes, s.mtime_ns / 1e9) != itself)
    return replace(model, files=tuple(rest))


def _name(checkpoint: Checkpoint) -> str:
    return "checkpoint" if checkpoint.name in ("", ".", "..") or "/" in checkpoint.name else checkpoint.name


def _group(
    checkpoint: Checkpoint,
    below: str,
    taken: dict[str, FileStamp],
    missing: list[dict[str, Any]],
    *,
    exact: bool,
    required: bool = True,
) -> dict[str, Any]:
    files: list[list[Any]] = []
    for stamp in checkpoint.files:
        single = stamp.path == "."
        if not single and (stamp.path.startswith("/") or {"", ".", ".."} & set(stamp.path.split("/"))):
            raise ValueError(f"{checkpoint.name} names a file outside itself: {stamp.path}")
        dest = below if single else f"{below}/{stamp.path}"
        other = taken.get(dest) or taken.get(f"{dest}/")
        if other is None:
            files.append([stamp.path, dest, stamp.bytes, stamp.dev, stamp.ino, stamp.mtime_ns])
        elif other.identity != stamp.identity:
            missing.append({"path": dest, "why": "the checkpoint has something of this name"})
        taken[dest] = stamp
        if not single and exact:
            taken[f"{below}/"] = stamp
    missing += [{"path": f"{below}/{path}", "why": why} for path, why in checkpoint.external]
    ignored = [path for path, _ in checkpoint.external]
    return {
        "root": checkpoint.path, "below": below, "required": required, "exact": exact, "files": files, "ignored": ignored,
        "held": checkpoint.origin != checkpoint.path,
    }  # fmt: skip


def document(intent: Intent, choice: Choice) -> dict[str, Any]:
    """metadata.json but for what only the worker knows (snapshot_name, missing, files), in its order."""
    kept = choice.checkpoint or choice.model
    fields: dict[str, Any] = {
        **intent.metadata,
        "schema": SCHEMA,
        "id": intent.id,
        "timestamp": intent.timestamp,
        "time": datetime.fromtimestamp(intent.created).astimezone().isoformat(timespec="milliseconds"),
        "reason": intent.reason,
        "snapshot_name": intent.name,
        "checkpoint": None if kept is None else _described(kept),
        "last_good": None if choice.last_good is None else _good(choice.last_good, intent.metadata),
        "rollback": rollback(intent.metadata, choice),
        "missing": [],
        "files": [],
    }
    ordered = {key: fields.pop(key) for key in _ORDER if key in fields}
    found = plain({**ordered, **fields})
    assert isinstance(found, dict)
    return found


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "source": checkpoint.origin,
        "step": checkpoint.step,
        "layout": checkpoint.layout,
        "complete_by": checkpoint.complete_by,
    }


def _good(checkpoint: Checkpoint, metadata: Mapping[str, Any]) -> dict[str, Any]:
    onset = _onset(metadata) if counts_steps(metadata) else None
    before = None if onset is None or checkpoint.step is None else onset - checkpoint.step
    return {**_described(checkpoint), "steps_before_onset": before}


def counts_steps(facts: Mapping[str, Any]) -> bool:
    """Can the step of a record be held against those of checkpoints? An epoch can't: these are named by steps."""
    return bool(facts.get("by", "step") == "step")


def _onset(metadata: Mapping[str, Any]) -> int | None:
    onset = metadata.get("onset_step")
    return metadata.get("step") if onset is None else onset


def rollback(metadata: Mapping[str, Any], choice: Choice) -> dict[str, Any] | None:
    """Where to resume from and which steps to look at; None for a best model, which is no trouble.

    A checkpoint from before the onset is one to resume from; one that was saved at or after it holds the
    trouble itself, and then it is the last good one.
    """
    if str(metadata.get("reason", "")).startswith("best_model"):
        return None
    newest, tainted = choice.checkpoint, choice.tainted
    onset = _onset(metadata) if counts_steps(metadata) else None
    if tainted is None and newest is not None and newest.step is not None and onset is not None:
        tainted = newest.step >= onset
    resume = newest if tainted is False else choice.last_good
    suspect, steps = _suspects(metadata, resume)
    if newest is None and resume is None:
        text = "No checkpoint could be kept"
    elif tainted and newest is not None:
        text = f"{shown(newest.name)} was saved at or after the onset" + ("" if onset is None else f" (step {onset})")
        text += "" if resume else ": resume from an earlier one"
    elif tainted is None and newest is not None:
        text = f"{shown(newest.name)} tells no step" if counts_steps(metadata) else "The steps of the run are not known"
    else:
        text = ""
    if resume is not None:
        at = "" if resume.step is None else f" (step {resume.step})"
        where = "" if resume is newest else " in last_good/"
        text += f"{': r' if text else 'R'}esume from {shown(resume.name)}{at}{where}"
    return {"resume_from": resume.name if resume else None, "suspect_steps": suspect, "text": f"{text}; look at {steps}."}


def _suspects(metadata: Mapping[str, Any], resume: Checkpoint | None) -> tuple[list[int] | None, str]:
    """The first step after the checkpoint to resume from (else the onset) to the firing step, for programs and in words."""
    step, onset = metadata.get("step"), _onset(metadata)
    if step is None or onset is None:
        return None, "the steps before this snapshot"
    if not counts_steps(metadata):
        unit = f"{metadata['by']}s" if onset < step else metadata["by"]
        return None, f"{unit} {onset}\N{EN DASH}{step}" if onset < step else f"{unit} {step}"
    first = min(onset, step) if resume is None or resume.step is None else min(resume.step + 1, step)
    first = max(0, first)
    return [first, step], f"steps {first}\N{EN DASH}{step}" if first < step else f"step {step}"
