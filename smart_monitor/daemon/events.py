"""OUT/logs/events.jsonl: what happened, one strict JSON object a line, for programs; each event once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smart_monitor.linefile import LineFile, cut_torn_tail
from smart_monitor.model import to_json

NAME = "events.jsonl"


class Events:
    """The event log of one run. What stands in it is not told again after a crash."""

    def __init__(self, directory: Path) -> None:
        self._file = LineFile(directory, 0o644)
        self._path = directory / NAME
        self._told: set[tuple[Any, ...]] = set()

    def open(self, *, remember: bool) -> None:
        """Cut a torn tail; with `remember`, read back which events already stand there. Raises OSError."""
        cut_torn_tail(self._path)
        if remember and self._path.exists():
            with self._path.open("rb") as lines:
                for line in lines:
                    try:
                        self._told.add(_key(json.loads(line)))
                    except (ValueError, AttributeError):
                        continue

    def forget(self) -> None:
        """Recovery is over: new events are new by themselves."""
        self._told.clear()

    def has(self, event: Mapping[str, Any]) -> bool:
        return _key(event) in self._told

    def append(self, event: Mapping[str, Any]) -> bool:
        """Write an event unless it already stands there; was it new?"""
        if self.has(event):
            return False
        self._file.append(NAME, to_json(event, ensure_ascii=False))
        return True

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()

    @property
    def trouble(self) -> str:
        return self._file.trouble


def _key(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event.get("event"), event.get("id"), event.get("state"), event.get("seq")
