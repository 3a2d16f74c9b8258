"""What has been sent, a small file for each snapshot and remote; and which snapshots still wait for it.

A cache: without it every snapshot is looked at again at the remote, and nothing that stands there is sent twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smart_monitor.model import SCHEMA, to_json
from smart_monitor.snapshots import sums
from smart_monitor.snapshots.folders import write_private
from smart_monitor.snapshots.listing import list_snapshots

OPEN, DONE, REFUSED = "open", "done", "refused"
MAX_BYTES = 64 * 2**20
_TARGET = "target.json"


def folder_of(out: Path) -> Path:
    """Where records of remote copies lie."""
    return out / ".smart_monitor" / "remote"


@dataclass(slots=True)
class Record:
    """How far one snapshot has come at one remote. Times are unix seconds."""

    path: Path
    """The record's own file."""
    sums: str
    """sha256 of the snapshot's SHA256SUMS: a record of another snapshot of that name says nothing."""
    since: float = 0.0
    """When it was first tried."""
    state: str = OPEN
    why: str = ""
    begun: list[str] = field(default_factory=list)
    """Files that we began to send: what stands there under their names is ours to replace."""
    files: dict[str, list[Any]] = field(default_factory=dict)
    """Path -> [bytes, tag] of what was proven to stand there."""

    def begin(self, name: str) -> None:
        """On the disk before the first byte is sent. Raises OSError."""
        if name not in self.begun:
            self.begun.append(name)
            self.save()

    def prove(self, name: str, size: int, tag: str) -> None:
        """This file stands there, whole. Raises OSError."""
        self.files[name] = [size, tag]
        self.save()

    def close(self, state: str, why: str = "") -> None:
        """Done, or refused for a reason that trying again does not mend by itself. Raises OSError."""
        self.state, self.why = state, why
        if state == DONE:
            self.begun, self.files = [], {}
        self.save()

    def save(self) -> None:
        """Replace the file, whole or not at all. Raises OSError."""
        fields = {name: getattr(self, name) for name in ("sums", "since", "state", "why", "begun", "files")}
        write_private(self.path, to_json({"schema": SCHEMA, **fields}).encode())


def record_of(out: Path, url: str, name: str, digest: str) -> Record:
    """The record of a snapshot whose SHA256SUMS has that digest; a fresh one if there is none that can be used."""
    fresh = Record(_path(out, url, name), digest, since=time.time())
    fields = _load(fresh.path)
    if fields.get("sums") != digest:
        return fresh
    try:
        since, begun, files = float(fields["since"]), list(map(str, fields["begun"])), dict(fields["files"])
        known = {str(k): [int(v[0]), str(v[1])] for k, v in files.items()}
        return Record(fresh.path, digest, since, str(fields["state"]), str(fields["why"]), begun, known)
    except (KeyError, TypeError, ValueError, IndexError):
        return fresh


def set_target(out: Path, url: str, days: float) -> None:
    """Say where snapshots are to be copied ("" = nowhere) and how long pruning waits for it. Raises OSError."""
    path, document = folder_of(out) / _TARGET, {"schema": SCHEMA, "url": url, "days": days}
    if _load(path) == document or (not url and not path.exists()):
        return
    write_private(path, to_json(document).encode())


def waiting(out: Path, url: str) -> tuple[list[str], dict[str, str]]:
    """The snapshots of which no copy is known to stand at `url`, the oldest first; and those that can't be sent: why."""
    found = _waiting(out, url)
    cannot = {name: str(fields.get("why")) for name, fields in found if fields.get("state") == REFUSED}
    return [name for name, _ in found if name not in cannot], cannot


def forget_gone(out: Path, url: str) -> None:
    """Remove the records of snapshots that stand here no more. Raises OSError."""
    for path in _path(out, url, "").parent.glob("*.json"):
        if not (out / "snapshots" / path.stem).exists():
            path.unlink(missing_ok=True)


def pending(out: Path, now: float | None = None) -> set[str]:
    """Names of the snapshots that are not to be pruned yet: they wait to be copied to the remote that is set.

    Empty where no remote is set. A snapshot that could not be copied within the days that the setting
    gives (counted from the first try) waits no longer.
    """
    target = _load(folder_of(out) / _TARGET)
    url, days = target.get("url"), target.get("days")
    if not isinstance(url, str) or not url or not isinstance(days, (int, float)):
        return set()
    now, kept = time.time() if now is None else now, set()
    for name, fields in _waiting(out, url):
        since = fields.get("since")
        if not isinstance(since, (int, float)) or now - since < days * 86400:
            kept.add(name)
    return kept


def _waiting(out: Path, url: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for snapshot in list_snapshots(out):
        fields = _load(_path(out, url, snapshot.name))
        try:
            digest = digest_of(snapshot.path)
        except OSError:
            continue  # it was deleted just now
        if fields.get("sums") != digest:
            fields = {}
        if fields.get("state") != DONE:
            found.append((snapshot.name, fields))
    return found


def digest_of(snapshot: Path) -> str:
    """What tells a snapshot from another of its name: the sha256 of its SHA256SUMS. Raises OSError."""
    return hashlib.sha256((snapshot / sums.NAME).read_bytes()).hexdigest()


def _path(out: Path, url: str, name: str) -> Path:
    return folder_of(out) / hashlib.sha256(url.encode()).hexdigest()[:16] / f"{name}.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) and fields.get("schema") == SCHEMA else {}
