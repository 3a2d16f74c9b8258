"""Copying into the holds what can be neither cloned nor linked: done by the copying process, paced so that it stays rare."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from smart_monitor.model import Checkpoint
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.hold import FILES, folder_name
from smart_monitor.snapshots.pin import is_single
from smart_monitor.snapshots.process import AT_ONCE, Places, Worker

SHARE = 0.2
"""Share of the time that copying one checkpoint again and again may take: a trainer that saves all the time
is not to be read all the time."""


HUNG = 60.0
"""Seconds without a word after which a copying process is ended."""


class _Job(NamedTuple):
    found: Checkpoint
    folder: str
    worker: Worker
    began: float


class Copied(NamedTuple):
    """How a copy ended: in `folder` lies what was copied of `found`, all of it if `why` is empty."""

    found: Checkpoint
    folder: str
    why: str
    changed: bool
    """It failed because the trainer wrote into it or took it away meanwhile."""


class Eager:
    """One copy at a time, the newest wanted first. Monotonic seconds."""

    _places = Places(AT_ONCE)
    """Of all runs of this daemon."""

    def __init__(self, holds: str) -> None:
        self._holds = holds
        self._wanted: dict[str, Checkpoint] = {}
        self._job: _Job | None = None
        self._not_before: dict[str, float] = {}

    @property
    def busy(self) -> bool:
        return bool(self._wanted or self._job)

    @property
    def copying(self) -> Checkpoint | None:
        """What is being copied now."""
        return self._job.found if self._job else None

    def want(self, found: Checkpoint) -> None:
        """Copy it when its turn comes, unless a later state of it is wanted by then."""
        if self._job is None or self._job.found.files != found.files:
            self._wanted[found.path] = found

    def pump(self, mono: float, rate: float, reserve: dict[str, float] | None) -> Copied | None:
        """Start what is due; how a copy ended, if one did."""
        if self._job is None:
            due = [p for p in self._wanted if self._not_before.get(p, 0.0) <= mono]
            if due and self._places.take():
                return self._start(self._wanted.pop(max(due, key=lambda p: self._wanted[p].completed)), mono, rate, reserve)
            return None
        self._job.worker.give_up(HUNG)
        result = self._job.worker.poll()
        if result is None:
            return None
        job, self._job = self._job, None
        self._places.give_back()
        self._not_before = {p: t for p, t in self._not_before.items() if t > mono}
        self._not_before[job.found.path] = mono + (mono - job.began) * (1 / SHARE - 1)
        held = result["result"] == "held"
        return Copied(job.found, job.folder, "" if held else result["why"], result["result"] == "changed")

    def abandon(self) -> str:
        """Stop; the folder of the copy that was under way, or an empty name."""
        self._wanted.clear()
        job, self._job = self._job, None
        if job is None:
            return ""
        job.worker.abandon()
        self._places.give_back()
        return job.folder

    def _start(self, found: Checkpoint, mono: float, rate: float, reserve: dict[str, float] | None) -> Copied | None:
        folder = folder_name(found)
        path = os.path.join(self._holds, folder)
        own = os.path.basename(found.path)
        files = [[s.path, _dest(s.path, own, found), s.bytes, s.dev, s.ino, s.mtime_ns] for s in found.files]
        group = {
            "root": found.path, "required": True, "exact": True, "files": files, "ignored": [p for p, _ in found.external],
            "held": False,
        }  # fmt: skip
        job: dict[str, Any] = {"hold": path, "rate": rate, "reserve": reserve, "groups": [group]}
        try:
            make_private(path)
            self._job = _Job(found, folder, Worker(job), mono)
        except OSError as error:
            self._places.give_back()
            return Copied(found, folder, error.strerror or str(error), False)
        return None


def _dest(path: str, own: str, found: Checkpoint) -> str:
    return f"{FILES}/{own if is_single(found) else path}"
