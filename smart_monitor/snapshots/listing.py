"""Which snapshots stand: read from the directory each time, so that one deleted by hand is simply gone."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.names import SNAPSHOT
from smart_monitor.snapshots.publish import METADATA, decision_of

MAX_METADATA = 64 * 2**20


BEST = "best_model"
TOUCHED = 2.0
"""Seconds after its own time stamp from which a snapshot's file counts as written since it was published."""
_NUMBER = re.compile(r"_(z?-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?(pct|gib)?)$")


class Stored(NamedTuple):
    """One file of a snapshot as it lies on the disk. Files of the same (dev, ino) share their storage."""

    dev: int
    ino: int
    bytes: int
    sha256: str = ""
    clone: bool = False
    """It shares storage with an equal file of another snapshot without being the same inode."""


class Best(NamedTuple):
    """What makes a best model the best."""

    metric: str
    value: float


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
    """Why it was kept, without numbers: loss_spike, best_model, manual; never empty."""
    checkpoint: str | None
    """The name of the checkpoint in it."""
    id: str = ""
    """The decision's."""
    files: tuple[Stored, ...] = ()
    weights: bool = False
    """Does it hold model files, and not only the words about them?"""
    best: Best | None = None
    touched: bool = False
    """Was one of its files written since it was published? Then only reading it again tells whether it is sound."""


def list_snapshots(out: Path) -> list[Snapshot]:
    """The snapshots in `out`/snapshots, the oldest first. Foreign names and half-deleted ones are left out."""
    try:
        names = os.listdir(out / "snapshots")
    except OSError:
        return []
    found = [s for name in names if (s := _read(out / "snapshots" / name)) is not None]
    return sorted(_as_one(found), key=lambda s: (s.time, s.name))


def _as_one(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The same snapshots, in which a clone bears the identity of the file that it shares its storage with."""
    first: dict[str, Stored] = {}
    for file in sorted((f for s in snapshots for f in s.files), key=lambda f: f.clone):
        first.setdefault(file.sha256, file)
    return [replace(s, files=tuple(first[f.sha256] if f.clone else f for f in s.files)) for s in snapshots]


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


def locate(out: Path, name: str) -> Path:
    """The directory of that exact name or unique prefix, whole or damaged. Raises LookupError with one sentence."""
    found = [d for d in directories(out) if d.name.startswith(name) and name]
    exact = [d for d in found if d.name == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise LookupError(f"no snapshot is called {name!r}")
    raise LookupError(f"{name!r} fits {len(found)} snapshots: {', '.join(d.name for d in found[:5])}")


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a snapshot directory. Raises OSError or ValueError."""
    with open(path / METADATA, "rb") as file:
        try:
            document = json.loads(file.read(MAX_METADATA))
        except RecursionError:
            raise ValueError("metadata.json is nested too deep") from None
    if not isinstance(document, dict):
        raise ValueError("metadata.json holds no object")
    return document


def is_inside(path: str) -> bool:
    """Is this POSIX path one of a file inside the directory it is relative to?"""
    return not path.startswith("/") and not {"", ".", ".."} & set(path.split("/"))


def _read(path: Path) -> Snapshot | None:
    match = SNAPSHOT.fullmatch(path.name)
    try:
        if not match or not stat.S_ISDIR(os.lstat(path).st_mode) or not (path / sums.NAME).is_file():
            return None
        document = read_metadata(path)
        found = [(f, os.lstat(path / f["path"])) for f in document["files"] if is_inside(f["path"])]
        ours = [os.lstat(path / name) for name in (METADATA, sums.NAME)]
        published = os.lstat(path).st_mtime  # the names in it came last, and that stays its save time
        if len(found) != len(document["files"]) or any(i.st_size != f["bytes"] for f, i in found):
            return None
        step, reason = document.get("step"), str(document["reason"])
        return Snapshot(
            name=path.name,
            path=path,
            time=datetime.fromisoformat(document["time"]).timestamp(),
            reason=reason,
            step=step if isinstance(step, int) else None,
            bytes=sum(i.st_size for _, i in found),
            kinds=_kinds(document, reason),
            checkpoint=(document.get("checkpoint") or {}).get("name"),
            id=str(document.get("id", "")),
            files=tuple(_stored(f, i) for f, i in found),
            weights=any(f["path"].startswith("model/") for f, _ in found),
            best=_best(document),
            touched=any(i.st_mtime > published + TOUCHED for i in [*ours, *(i for _, i in found)]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _stored(file: dict[str, Any], info: os.stat_result) -> Stored:
    clone = file.get("how") == "shared" and bool(info.st_mode & stat.S_IWUSR)  # what was linked is read-only for ever
    return Stored(info.st_dev, info.st_ino, info.st_size, str(file["sha256"]), clone)


def _kinds(document: dict[str, Any], reason: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(str(f["kind"]) for f in document.get("findings") or ()))
    return found or (_NUMBER.sub("", reason),)


def _best(document: dict[str, Any]) -> Best | None:
    for finding in document.get("findings") or ():
        if finding["kind"] == BEST:
            value = finding.get("value")
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return Best(str(finding.get("metric", "")), float(value) if number else float("nan"))
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
