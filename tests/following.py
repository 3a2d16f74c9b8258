"""A run's directory that is written to and followed, in tests."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.following import RunSource
from smart_monitor.model import Record
from smart_monitor.sources import Cursor, Pass


def row(step: int, loss: float | None = None, **more: float) -> bytes:
    return json.dumps({"step": step, "loss": 1 / (step + 1) if loss is None else loss} | more).encode() + b"\n"


SOON = 0.001
"""Seconds, fewer than lie between two searches for files."""


class Follower:
    """Follows a directory as the monitor does, under a clock of its own."""

    def __init__(self, base: Path, **how: Any) -> None:
        self.base, self.how = base, how
        self.cursor: Cursor = {}
        self.mono, self.wall = 1000.0, time.time()
        self.news: list[str] = []
        self.unmoved = 0
        """Looks that were known to bring nothing."""
        self.seen = Pass({}, None)  # type: ignore[arg-type]
        self.start()

    def start(self) -> None:
        """A new one, from the cursor as it was saved."""
        self.source = RunSource(self.base, "run", Settings(poll_interval=0.1, **self.how), rest=0.0)
        self.cursor = json.loads(json.dumps(self.cursor, allow_nan=False))

    def look(self, later: float = 1.0) -> list[Record]:
        """All there is to be read now."""
        found: list[Record] = []
        self.mono += later
        self.wall += later
        while True:
            before, unmoved = self.cursor, self.source.unmoved(self.cursor, self.mono)
            self.unmoved += unmoved
            self.seen = self.source.read(self.cursor, self.wall, self.mono)
            self.cursor = self.seen.cursor
            if unmoved:
                assert self.cursor is before
                assert ([], False, ()) == (self.seen.records, self.seen.heartbeat, self.seen.news)
            self.news += self.seen.news
            found += self.seen.records
            assert not (self.seen.heartbeat and self.seen.records)
            if self.seen.retry_in != 0.0:
                return found


def told(records: list[Record], metric: str = "loss") -> list[tuple[str, int | None, float]]:
    return [(r.source, r.step, r.values[metric]) for r in records if metric in r.values]


def steps(records: list[Record], metric: str = "loss") -> list[int | None]:
    return [r.step for r in records if metric in r.values]


def append(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def status(base: Path, step: int, **more: Any) -> None:
    path = base / "status" / "training_status.json"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps({"current_step": step, "loss": 0.5} | more))
    os.replace(path.with_suffix(".new"), path)
