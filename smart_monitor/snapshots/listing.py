"""Which snapshots stand: read from the directory each time, so that one deleted by hand is simply gone."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.names import SNAPSHOT
from smart_monitor.snapshots.publish import METADATA, decision_of

MAX_METADATA = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A published snapshot as its metadata tells it; nothing is verified (`verify` does that)."""

    name: str
    path: Path
    time: float
    """Unix seconds of the decision."""
    reason: str
    step: int | None
    bytes: int
    """Of all files that the metadata names."""
    kinds: tuple[str, ...]
    checkpoint: str | None
    """The name of the checkpoint in it."""


def list_snapshots(out: Path) -> list[Snapshot]:
    """The snapshots in `out`/snapshots, the oldest first. Foreign names and half-deleted ones are left out."""
    try:
        names = os.listdir(out / "snapshots")
    except OSError:
        return []
    found = [s for name in names if (s := _read(out / "snapshots" / name)) is not None]
    return sorted(found, key=lambda s: (s.time, s.name))


def directories(out: Path) -> list[Path]:
    """Every directory that bears a snapshot's name, whole or damaged, in the order of their names."""
    try:
        names = sorted(os.listdir(out / "snapshots"))
    except OSError:
        return []
    return [out / "snapshots" / n for n in names if SNAPSHOT.fullmatch(n) and (out / "snapshots" / n).is_dir()]


def find(out: Path, name: str) -> Snapshot:
    """The snapshot of that exact name or unique prefix. Raises LookupError with one sentence for a user."""
    snapshots = list_snapshots(out)
    found = [s for s in snapshots if s.name == name] or [s for s in snapshots if s.name.startswith(name) and name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LookupError(f"no snapshot is called {name!r}")
    raise LookupError(f"{name!r} fits {len(found)} snapshots: {', '.join(s.name for s in found[:5])}")


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a snapshot directory. Raises OSError or ValueError."""
    with open(path / METADATA, "rb") as file:
        document = json.loads(file.read(MAX_METADATA))
    if not isinstance(document, dict):
        raise ValueError("metadata.json holds no object")
    return document


def _read(path: Path) -> Snapshot | None:
    match = SNAPSHOT.fullmatch(path.name)
    try:
        if not match or not stat.S_ISDIR(os.lstat(path).st_mode) or not (path / sums.NAME).is_file():
            return None
        document = read_metadata(path)
        files = document["files"]
        if any(os.lstat(path / f["path"]).st_size != f["bytes"] for f in files):
            return None
        step = document.get("step")
        return Snapshot(
            name=path.name,
            path=path,
            time=datetime.fromisoformat(document["time"]).timestamp(),
            reason=str(document["reason"]),
            step=step if isinstance(step, int) else None,
            bytes=sum(f["bytes"] for f in files),
            kinds=tuple(dict.fromkeys(str(f["kind"]) for f in document.get("findings") or ())),
            checkpoint=(document.get("checkpoint") or {}).get("name"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def published_ids(snapshots: Path) -> dict[str, str]:
    """Decision id -> name of every snapshot that stands."""
    found: dict[str, str] = {}
    try:
        fd = os.open(snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        for name in sorted(os.listdir(fd)):
            if SNAPSHOT.fullmatch(name) and (decision := decision_of(name, fd)):
                found[decision] = name
    finally:
        os.close(fd)
    return found


def published_as(snapshots: Path, name: str, decision: str) -> str | None:
    """The name under which a decision's snapshot stands: `name`, or with a number after it; None if it does not."""
    try:
        fd = os.open(snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        final, number = name, 1
        while (found := decision_of(final, fd)) is not None:
            if found == decision:
                return final
            number += 1
            final = f"{name}_{number}"
    finally:
        os.close(fd)
    return None
