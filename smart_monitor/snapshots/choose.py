"""Choosing: which of the complete checkpoints is the evidence, and which is the last good one before the trouble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from smart_monitor.model import Checkpoint, newest

AHEAD = 60.0
"""Seconds by which a time may lie ahead of our clock, as a file server's may, before one of the two is taken to be wrong."""


class Option(NamedTuple):
    """A complete checkpoint and what is known of the time around it."""

    checkpoint: Checkpoint
    calm: bool
    """Completed while no incident was open."""
    proven: bool
    """Followed by enough judged records without an open incident."""
    hold: str = ""
    """Our hold on it, by name."""


class Lineage(NamedTuple):
    """The attempt: what was completed since it began belongs to it, and what it may have been resumed from."""

    since: float | None
    """Unix seconds; None: the first attempt, everything belongs to it."""
    first: int | None
    """Its first step."""

    def holds(self, found: Checkpoint) -> bool:
        """Can the weights of `found` be what this attempt was trained from?"""
        if self.since is None or found.completed >= self.since:
            return True
        return found.step is not None and self.first is not None and found.step <= self.first


def begun(since: float | None, now: float) -> float | None:
    """When the attempt began, as far as that can be held against completions: not if a clock told it that was put right since."""
    return None if since is not None and since > now + AHEAD else since


class Moment(NamedTuple):
    """When something happened, as far as is known."""

    step: int | None
    time: float | None
    """Unix seconds."""


def is_before(found: Checkpoint, moment: Moment) -> bool | None:
    """Was it saved before the moment? By its step where both tell one, else by its completion; None if neither tells."""
    if found.step is not None and moment.step is not None:
        return found.step < moment.step
    return None if moment.time is None else found.completed < moment.time


def latest(options: Sequence[Option], since: float | None) -> Option | None:
    """The newest (`model.newest`)."""
    found = newest([o.checkpoint for o in options], since)
    return next((o for o in options if o.checkpoint is found), None)


def last_good(options: Sequence[Option], lineage: Lineage, onset: Moment) -> Option | None:
    """The newest proven one of the attempt from before the onset, else the newest that was completed in calm."""
    before = [o for o in options if lineage.holds(o.checkpoint) and is_before(o.checkpoint, onset)]
    for good in ([o for o in before if o.proven], [o for o in before if o.calm]):
        if good:
            return latest(good, None)
    return None


def nearest(options: Sequence[Option], lineage: Lineage, best: Moment) -> Option | None:
    """The one nearest to the best record, of the attempt if it has any; of two as near, the later."""
    own = [o for o in options if lineage.holds(o.checkpoint)] or options
    told = [o for o in own if distance(o.checkpoint, best) is not None] or own
    return min(told, key=lambda o: (distance(o.checkpoint, best) or 0.0, -o.checkpoint.completed), default=None)


def distance(found: Checkpoint, best: Moment) -> float | None:
    """How far from the best record: steps where both tell one, else seconds; None if neither tells."""
    if best.step is not None and found.step is not None:
        return float(abs(found.step - best.step))
    return None if best.step is not None or best.time is None else abs(found.completed - best.time)
