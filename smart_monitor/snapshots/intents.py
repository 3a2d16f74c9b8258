"""Intents: what the store has promised to keep, each durable in a file of its own until its snapshot stands."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.model import SCHEMA, to_json
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.names import SNAPSHOT

MAX_BYTES = 256 * 2**20


class Needs(NamedTuple):
    """What a promise is to hold."""

    hold: str = ""
    """The hold of the checkpoint chosen when the decision fell; empty if there was none."""
    good: str = ""
    """The hold of the last good checkpoint from before the trouble."""
    onset: float | None = None
    """Unix seconds at which the trouble began, as the trainer's records were seen."""


NOTHING = Needs()
_TEMPORARY = re.compile(r"[0-9]{8}_[0-9]{6}-[0-9a-f]{24}\.tmp")


@dataclass(frozen=True, slots=True)
class Intent:
    """One snapshot to be taken. Times are unix seconds."""

    id: str
    """The decision's."""
    name: str
    """Of the directory; a collision at publishing appends `_2`."""
    reason: str
    created: float
    timestamp: str
    """YYYYMMDD_HHMMSS of `created`, local."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status: bytes | None = None
    tries: int = 0
    """Failures for want of space or by the worker's death."""
    changed: int = 0
    """Times that the source did not stand still."""
    not_before: float = 0.0
    why: str = ""
    """The last failure, in words."""
    needs: Needs = NOTHING
    held_back: bool = False
    """There was no room, or nothing could be written, often enough: it waits for that, and its checkpoint is held meanwhile."""

    def to_json(self) -> str:
        """The file's content."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["status"] = None if self.status is None else base64.b64encode(self.status).decode()
        return to_json({"schema": SCHEMA, **fields, "needs": self.needs._asdict()})

    @classmethod
    def from_json(cls, text: bytes) -> Intent:
        """Raises ValueError for anything that `to_json` would not write."""
        try:
            fields = json.loads(text)
            if fields.pop("schema") != SCHEMA:
                raise ValueError("it is of another schema")
            if fields["status"] is not None:
                fields["status"] = base64.b64decode(fields["status"], validate=True)
            fields["needs"] = Needs(**fields.pop("needs", {}))
            intent = cls(**fields)
            words = (intent.id, intent.name, intent.reason, intent.timestamp, intent.why, *intent.needs[:2])
            if not all(isinstance(w, str) for w in words) or not SNAPSHOT.fullmatch(intent.name):
                raise ValueError("its words are not those of an intent")
            numbers = (intent.created, intent.not_before, intent.tries, intent.changed, intent.needs.onset or 0)
            if not all(isinstance(n, (int, float)) for n in numbers) or not isinstance(intent.metadata, dict):
                raise ValueError("its figures are not those of an intent")
            return intent
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is not an intent ({error})") from error


class IntentBox:
    """The directory of intents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, intent: Intent) -> Path:
        """An id may hold any character and be long, so the name carries its digest."""
        return self.folder / f"{intent.timestamp}-{hashlib.sha256(intent.id.encode('utf-8', 'replace')).hexdigest()[:24]}.json"

    def save(self, intent: Intent) -> None:
        """On the disk, whole, when this returns. Raises OSError; the earlier state stands then."""
        make_private(str(self.folder.absolute()))
        path = self.path(intent)
        temporary = path.with_suffix(".tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(intent.to_json().encode())
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._sync()

    def remove(self, intent: Intent) -> None:
        """Forget a kept promise. Raises OSError; gone already is fine."""
        if self.path(intent).exists():
            self.path(intent).unlink(missing_ok=True)
            self._sync()

    def ids(self) -> set[str]:
        """The decisions whose promises stand open, by anyone's look: nothing is set aside."""
        found = set()
        for path in self.folder.glob("*.json"):
            try:
                found.add(Intent.from_json(path.read_bytes()).id)
            except (OSError, ValueError):
                continue
        return found

    def load(self) -> tuple[list[Intent], list[str]]:
        """Every intent, the oldest first, and a sentence for each file set aside because it can't be read.

        For who holds the run's lock: a temporary file is then one that a killed monitor left behind, and goes.
        """
        for path in self.folder.glob("*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()
        intents: list[Intent] = []
        said: list[str] = []
        try:
            paths = sorted(self.folder.glob("*.json"))
        except OSError:
            paths = []
        for path in paths:
            try:
                with open(path, "rb") as file:
                    intents.append(Intent.from_json(file.read(MAX_BYTES)))
            except ValueError as error:
                said.append(f"the intent {path.name} can't be used and was set aside: {error}")
                self._set_aside(path)
            except OSError as error:
                said.append(f"the intent {path.name} can't be read: {error.strerror}")
        return sorted(intents, key=lambda i: i.created), said

    @staticmethod
    def _set_aside(path: Path) -> None:
        try:
            path.rename(path.with_suffix(".unusable"))
        except OSError:
            return

    def _sync(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
