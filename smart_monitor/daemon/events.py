"""OUT/logs/events.jsonl: what happened, one strict JSON object a line, for programs; each event once."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from smart_monitor.linefile import LineFile, cut_torn_tail
from smart_monitor.model import to_json

NAME = "events.jsonl"
_Key = tuple[Any, ...]


class Events:
    """The event log of one run. What stands in it is not told again after a crash."""

    def __init__(self, directory: Path) -> None:
        self._file = LineFile(directory, 0o644)
        self._path = directory / NAME
        self._told: set[_Key] = set()
        self._last: _Key | None = None

    def open(self) -> bool:
        """Cut a torn tail, make the file if it is not there; was it there? Raises OSError."""
        cut_torn_tail(self._path)
        stood = self._path.exists()
        if not stood:
            self._path.parent.mkdir(exist_ok=True)
            self._path.touch(0o644)
        return stood

    def remember(self, offset: int) -> None:
        """Read back which events stand there from byte `offset` on: those may be about to be told again. Raises OSError."""
        with self._path.open("rb") as lines:
            # Not what it was: begun anew by a person. Then all of it may matter.
            lines.seek(offset if offset <= self._path.stat().st_size else 0)
            for line in lines:
                try:
                    self._last = _key(json.loads(line))
                except (ValueError, AttributeError):
                    continue
                self._told.add(self._last)

    def forget(self, promised: Container[str]) -> None:
        """Recovery is over: new events are new by themselves, but for those about snapshots still `promised`."""
        self._told = {key for key in self._told if key[0] == "snapshot" and key[1] in promised}
        self._last = None

    def has(self, event: Mapping[str, Any]) -> bool:
        return _key(event) in self._told

    def ends_with(self, event: Mapping[str, Any]) -> bool:
        """Was this the last event before the crash? Its log line may not have been written."""
        return self._last is not None and _key(event) == self._last

    def append(self, event: Mapping[str, Any]) -> bool:
        """Write an event unless it already stands there; was it new?"""
        if self.has(event):
            return False
        self._file.append(NAME, to_json(event, ensure_ascii=False))
        return True

    @property
    def size(self) -> int:
        """Bytes that stand there; 0 if the file is gone."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def flush(self) -> None:
        self._file.flush()

    def sync(self) -> None:
        self._file.sync()

    def rest(self) -> None:
        """Give the descriptor back until the next event."""
        self._file.rest()

    def close(self) -> None:
        self._file.close()

    @property
    def trouble(self) -> str:
        return self._file.trouble

    @property
    def lost(self) -> int:
        return self._file.lost


def _key(event: Mapping[str, Any]) -> _Key:
    return event.get("event"), event.get("id"), event.get("state"), event.get("seq")
