"""Standing: what the judged records say of each checkpoint, by what happened when and after it was completed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smart_monitor.engine import Engine
from smart_monitor.model import Checkpoint, Record

PROOF = 50
"""Judged records (of each rank) in a row without an open incident that prove the checkpoint before them good."""
REMEMBERED = 256
"""Checkpoints whose standing is remembered, the last met."""
HARMLESS = frozenset({"host", "sight", "progress", "ranks"})
"""Families of incidents that say nothing against the weights."""


TIMES = 512
"""Records whose time is remembered."""


@dataclass(slots=True)
class _Standing:
    at: int
    """Records judged when it was completed."""
    calm: bool
    proven: bool = False


class Standings:
    """The standing of each checkpoint, by where it was written and when it was completed. Times are unix seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Standing] = {}
        self._count = self._offset = 0
        self._troubled = (0, 0)
        """The records at which the last incident was open: the first and the last of them."""
        self._times = array("d", [0.0]) * TIMES

    def heed(self, record: Record, engine: Engine) -> bool:
        """After each record judged as news: did a checkpoint become proven by it?"""
        self._times[self._count % TIMES] = record.seen or 0.0
        self._offset = record.index - self._count
        self._count += 1
        if trouble(engine) is not None:
            began, last = self._troubled
            self._troubled = (began if last == self._count - 1 and last else self._count), self._count
            return False
        since, need = self._troubled[1], PROOF * max(1, len(engine.ranks))
        proven = [s for s in self._known.values() if not s.proven and self._count - max(s.at, since) >= need]
        for standing in proven:
            standing.proven = True
        return bool(proven)

    def time_of(self, index: int) -> float | None:
        """When the record of that index was seen, if it was judged lately."""
        number = index - self._offset
        if not 0 <= number < self._count or self._count - number > TIMES:
            return None
        return self._times[number % TIMES] or None

    def meet(self, found: Checkpoint, *, first: bool, engine: Engine) -> bool:
        """A complete checkpoint was seen; True if for the first time. `first`: it stood there when we first looked."""
        if (key := _key(found)) in self._known:
            return False
        since, at = trouble(engine), self._count if first else self._count_at(found.completed)
        if first:  # its step tells whether it is from before the trouble
            calm = since is None or (found.step is not None and found.step < since)
        else:
            calm = not (self._troubled[0] <= at <= self._troubled[1]) or self._troubled[1] == 0
        self._known[key] = _Standing(at, calm)
        for old in list(self._known)[:-REMEMBERED]:
            del self._known[old]
        return True

    def _count_at(self, completed: float) -> int:
        """Records that had been seen by then."""
        number = self._count
        while number and self._count - number < TIMES and self._times[(number - 1) % TIMES] > completed:
            number -= 1
        return number

    def calm(self, found: Checkpoint) -> bool:
        """Was it completed while no incident was open?"""
        standing = self._known.get(_key(found))
        return standing is not None and standing.calm

    def proven(self, found: Checkpoint) -> bool:
        """Was it followed by PROOF records without an open incident?"""
        standing = self._known.get(_key(found))
        return standing is not None and standing.proven

    def state(self) -> dict[str, Any]:
        return {"count": self._count, "known": {key: [s.at, s.calm, s.proven] for key, s in self._known.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`. Raises ValueError, KeyError or TypeError for anything else."""
        known = {key: _Standing(int(at), bool(calm), bool(proven)) for key, (at, calm, proven) in state["known"].items()}
        # What happened between the last save and now nobody counted: the proof begins anew.
        self._count = int(state["count"])
        for standing in known.values():
            standing.at = self._count
        self._known = known


def _key(found: Checkpoint) -> str:
    return f"{found.completed!r} {found.origin}"


def trouble(engine: Engine) -> float | None:
    """The first step of the incidents open about the training itself (-inf if one tells none); None if there is none."""
    steps = [
        float("-inf") if incident["first_step"] is None else float(incident["first_step"])
        for judge in engine.ranks.values()
        for family, incident in judge.incidents.open.items()
        if family not in HARMLESS
    ]
    return min(steps, default=None)
