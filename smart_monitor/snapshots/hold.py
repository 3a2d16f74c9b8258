"""A hold: what keeps a complete checkpoint alive when its trainer rotates it, and how it is remembered.

`holds/<folder>/files/…` is the checkpoint, `holds/<folder>/hold.json` says of which; it is written last, so
that a folder without it is what a kill left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from smart_monitor.model import SCHEMA, Checkpoint, FileStamp, to_json
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pin import is_single

DESCRIPTION = "hold.json"
FILES = "files"
PREFIX = "hold-"
TRASH = ".trash-"
How = Literal["clone", "link", "copy"]
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Hold:
    """One complete checkpoint held."""

    folder: str
    """Its name below holds/."""
    checkpoint: Checkpoint
    """As it lay in the trainer's directory."""
    how: How
    attempt: int
    taken: float
    """Unix seconds."""
    files: tuple[FileStamp, ...]
    """As they lie in ours, in the order of `checkpoint.files`."""

    def noun(self, holds: str) -> Checkpoint:
        """The checkpoint as it is to be copied from our side."""
        path = os.path.join(holds, self.folder, FILES)
        if is_single(self.checkpoint):
            path = os.path.join(path, os.path.basename(self.checkpoint.path))
        return replace(self.checkpoint, path=path, files=self.files, source=self.checkpoint.path)

    def is_of(self, found: Checkpoint) -> bool:
        """Is it of this checkpoint, with these very contents?"""
        ours = self.checkpoint
        return ours.path == found.origin and _contents(ours) == _contents(found)

    def outlives(self, found: Checkpoint) -> bool:
        """Is `found` what a deletion under way, or one cut short, has left of it?"""
        return self.checkpoint.path == found.origin and is_remnant(found, self.checkpoint)


def is_remnant(found: Checkpoint, whole: Checkpoint) -> bool:
    """Does `found` lack files of `whole`, and is all else the same?"""
    return set(_contents(found)) < set(_contents(whole))


def _contents(found: Checkpoint) -> list[tuple[str, int, int, int]]:
    # Without the device, which a reboot may number anew.
    return [(s.path, s.ino, s.bytes, s.mtime_ns) for s in found.files]


def folder_name(found: Checkpoint) -> str:
    """Under which a checkpoint is held: its name as far as it is safe, and a digest of where and what it is.

    It never begins with `checkpoint-`, which trainers take for theirs, and no two takes share one.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", found.name)[:60]
    what = f"{found.path}\0{found.files}\0{time.time_ns()}".encode("utf-8", "replace")
    return f"{PREFIX}{safe}-{hashlib.sha256(what).hexdigest()[:16]}"


def problem(hold: Hold, holds: str) -> str:
    """Why a hold is no longer what it was: a file of it was overwritten in place, or is gone. Empty if it stands."""
    noun = hold.noun(holds)
    for kept in hold.files:
        path = noun.path if kept.path == "." else os.path.join(noun.path, kept.path)
        try:
            info = os.lstat(path)
        except OSError:
            return f"{shown(kept.path)} is gone from the hold"
        if not stat.S_ISREG(info.st_mode) or info.st_ino != kept.ino:
            return f"{shown(kept.path)} was replaced in the hold"
        if (info.st_size, info.st_mtime_ns) != (kept.bytes, kept.mtime_ns):
            return f"{shown(kept.path)} was overwritten in place"
    return ""


def described(found: Checkpoint, folder: str, holds: str, how: How, attempt: int) -> Hold:
    """The hold of what was copied into a folder. Raises OSError if a file is not there."""
    top = os.path.join(holds, folder, FILES)
    files = []
    for stamp in found.files:
        info = os.lstat(os.path.join(top, os.path.basename(found.path) if stamp.path == "." else stamp.path))
        files.append(FileStamp(stamp.path, info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns))
    return Hold(folder, found, how, attempt, time.time(), tuple(files))


def save(hold: Hold, holds: str) -> None:
    """Describe a hold, whole or not at all. Raises OSError."""
    found = hold.checkpoint
    document = {
        "schema": SCHEMA, "name": found.name, "source": found.path, "step": found.step, "layout": found.layout,
        "complete_by": found.complete_by, "completed": found.completed, "how": hold.how, "attempt": hold.attempt,
        "taken": hold.taken, "external": [list(e) for e in found.external],
        "files": [_file(kept, theirs) for kept, theirs in zip(hold.files, found.files, strict=True)],
    }  # fmt: skip
    path = os.path.join(holds, hold.folder, DESCRIPTION)
    fd = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(to_json(document).encode("utf-8", "surrogateescape"))
    os.rename(f"{path}.tmp", path)


def _file(kept: FileStamp, theirs: FileStamp) -> dict[str, Any]:
    found = {"path": kept.path, "bytes": kept.bytes, "ino": kept.ino, "mtime_ns": kept.mtime_ns}
    return found | {"source_ino": theirs.ino, "source_mtime_ns": theirs.mtime_ns}


def load(holds: str, folder: str) -> Hold:
    """The hold in a folder, with the devices of today. Raises ValueError or OSError if it can't be used."""
    path = os.path.join(holds, folder, DESCRIPTION)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        try:
            return _hold(json.loads(file.read(_MAX_BYTES)), folder, os.fstat(fd).st_dev)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no description of a hold ({error})") from error


def _hold(told: dict[str, Any], folder: str, dev: int) -> Hold:
    if told["schema"] != SCHEMA or told["how"] not in ("clone", "link", "copy"):
        raise ValueError("it is of another schema")
    for file in told["files"]:
        path = file["path"]
        if path != "." and (path.startswith("/") or {"", ".", ".."} & set(path.split("/"))):
            raise ValueError(f"it names a file outside itself: {path}")
    step = None if told["step"] is None else int(told["step"])
    ours = tuple(FileStamp(f["path"], int(f["bytes"]), dev, int(f["ino"]), int(f["mtime_ns"])) for f in told["files"])
    theirs = tuple(
        FileStamp(f["path"], int(f["bytes"]), dev, int(f["source_ino"]), int(f["source_mtime_ns"])) for f in told["files"]
    )
    if not ours:
        raise ValueError("it names no files")
    found = Checkpoint(
        name=str(told["name"]), path=str(told["source"]), step=step, layout=str(told["layout"]),
        complete_by=str(told["complete_by"]), completed=float(told["completed"]), files=theirs,
        external=tuple((str(path), str(why)) for path, why in told["external"]),
    )  # fmt: skip
    return Hold(folder, found, told["how"], int(told["attempt"]), float(told["taken"]), ours)
