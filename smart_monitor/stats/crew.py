"""The ranks of one run beside one another: how far each has come, and who falls behind the others.

Ranks train in lockstep, but what they write arrives in bursts: files are flushed at different times, and read one
after the other. So a rank is compared with the others by how far any of them usually moves between two arrivals, and
only if it took part since the run last began: the ranks of a run restarted on fewer machines are not missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from smart_monitor.model import Record

MOVES = 5.0
"""Usual moves (steps between two arrivals) that a rank may be behind."""
FADING = 0.95
"""What is left of the largest move at the next one: 60 moves later a twentieth."""
HEARD = 3
"""Records from which a rank counts as taking part."""
MAX_RANKS = 4096
"""Ranks that are told apart; others are not compared."""
ALONE = ("loss", "grad_norm")
UNKNOWN = -1.0


class Behind(NamedTuple):
    """One rank that is not where the others are. Steps."""

    rank: int
    step: int
    steps: int
    """How far behind the step that half of the ranks have reached."""
    allowed: float
    still: bool
    """It has not moved since it fell behind."""


class _Peer:
    """One rank."""

    __slots__ = ("ailing", "arrivals", "bad", "burst", "generation", "heard", "move", "seen", "since", "step", "stood", "worst")

    def __init__(self) -> None:
        self.step = 0
        self.seen: float | None = None
        """Unix seconds of the last arrival; None in the replay of what a trainer wrote."""
        self.burst = 0
        """Steps moved in this arrival."""
        self.move = 0.0
        """The largest move between two arrivals, fading."""
        self.generation = -1
        self.heard = 0
        """Records of this generation, and arrivals of them."""
        self.arrivals = 0
        self.since: float | None = None
        """When it was first found behind; UNKNOWN where nobody knows the time, None while it is not."""
        self.stood = 0
        """Where it stood then."""
        self.bad: int | None = None
        """The step at which its loss or gradient norm turned non-finite; None while it is a number."""
        self.ailing = -1
        """The last step at which it was non-finite."""
        self.worst = 0
        """The most it has been behind since it last was not."""

    def arrive(self, step: int, seen: float | None) -> None:
        if seen is None or seen != self.seen:
            self.move = max(float(self.burst), FADING * self.move)
            self.burst, self.arrivals = 0, self.arrivals + 1
        if self.heard:
            self.burst += max(0, step - self.step)
        self.step, self.seen = step, seen
        self.heard += 1

    def join(self, generation: int) -> None:
        """It takes part since the run began anew."""
        self.generation, self.heard, self.arrivals, self.burst = generation, 0, 0, 0
        self.since, self.bad, self.ailing, self.worst = None, None, -1, 0

    def takes_part(self, generation: int) -> bool:
        return self.generation == generation and self.heard >= HEARD and (self.seen is None or self.arrivals >= 2)


class Crew:
    """The fold: `observe` every record of every rank, `look` now and then. State is a dozen numbers a rank."""

    def __init__(self) -> None:
        self._peers: dict[int, _Peer] = {}
        self._generation = 0
        self._since_look = 0
        self.usual = 0
        """The step that half of the ranks have reached."""

    def __len__(self) -> int:
        """How many ranks take part."""
        return sum(p.takes_part(self._generation) for p in self._peers.values())

    def observe(self, record: Record, step: int | None, *, restarted: bool) -> bool:
        """Fold in one record of a rank whose last training step is `step`; is it time to `look`?"""
        peer = self._peers.get(record.rank)
        if peer is None:
            if len(self._peers) >= MAX_RANKS:
                return False
            peer = self._peers[record.rank] = _Peer()
        at = step if step is not None else peer.step + 1
        if restarted and peer.generation == self._generation:
            self._generation += 1  # the others take part again when they are heard of
        if peer.generation != self._generation and (restarted or self._fits(at)):
            peer.join(self._generation)
        peer.arrive(at, record.seen)
        self._note(peer, record, at)
        if record.historical:
            peer.arrivals = peer.burst = 0  # what stood there at first contact says nothing about who takes part now
            return False
        self._since_look += 1
        return self._since_look >= len(self._peers)

    def _fits(self, step: int) -> bool:
        """Can a record at `step` be of the present generation, or is it a late one of the ranks before?"""
        steps = [p.step for p in self._peers.values() if p.generation == self._generation]
        return not steps or step <= max(steps) + MOVES * max(1.0, self._move())

    def _move(self) -> float:
        return max((max(p.move, float(p.burst) if p.move else 0.0) for p in self._members()), default=0.0)

    def _members(self) -> list[_Peer]:
        return [p for p in self._peers.values() if p.generation == self._generation]

    @staticmethod
    def _note(peer: _Peer, record: Record, step: int) -> None:
        values = record.values
        if any(not math.isfinite(values[m]) for m in ALONE if m in values):
            peer.bad, peer.ailing = step if peer.bad is None else peer.bad, step
        elif "loss" in values:
            peer.bad = None

    def look(self, now: float | None, patience: float) -> list[Behind]:
        """The ranks that are behind, and have been for `patience` seconds (where the time is known), the worst first."""
        self._since_look = 0
        members = {r: p for r, p in self._peers.items() if p.takes_part(self._generation)}
        if len(members) < 2:
            return []
        steps = sorted(p.step for p in members.values())
        self.usual = steps[len(steps) // 2]
        allowed = MOVES * max(1.0, self._move())
        found = []
        for rank, peer in members.items():
            behind = self.usual - peer.step
            if behind <= (allowed if peer.since is None else allowed / 2):
                # What it has made up for belongs to how its lines arrive.
                peer.worst = max(peer.worst, behind)
                if behind <= 0 or peer.since is not None:
                    peer.move, peer.worst = max(peer.move, float(peer.worst)), 0
                peer.since = None
                continue
            peer.worst = max(peer.worst, behind)
            if peer.since is None:
                peer.since, peer.stood = UNKNOWN if now is None else now, peer.step
            waited = math.inf if now is None or peer.since == UNKNOWN else now - peer.since
            if waited >= patience:
                found.append(Behind(rank, peer.step, behind, allowed, peer.step == peer.stood))
        return sorted(found, key=lambda b: (-b.steps, b.rank))

    def alone(self) -> list[tuple[int, int]]:
        """(rank, step) of those whose loss is no number while every other rank went past that step with one."""
        members = {r: p for r, p in self._peers.items() if p.takes_part(self._generation)}
        bad = [(r, p.bad) for r, p in members.items() if p.bad is not None]
        fine = [p for p in members.values() if p.bad is None]
        if not bad or len(fine) < len(bad):
            return []
        first, last = min(step for _, step in bad), max(step for _, step in bad)
        if min(p.step for p in fine) <= last or max(p.ailing for p in fine) >= first:
            return []
        return sorted(bad)

    def departed(self) -> list[int]:
        """The ranks that have not taken part since the run last began, once those that do have come some way."""
        members = self._members()
        if not members or any(p.heard < 2 * HEARD for p in members):
            return []
        return sorted(r for r, p in self._peers.items() if p.generation != self._generation)

    def last(self) -> int | None:
        """How far the ranks that take part have come; None if nobody was heard of."""
        return max((p.step for p in self._peers.values() if p.takes_part(self._generation)), default=None)

    def hindmost(self) -> list[int]:
        """The ranks that have not reached the last step of the others; none where all or most are alike behind."""
        members = {r: p.step for r, p in self._peers.items() if p.takes_part(self._generation)}
        top = max(members.values(), default=0)
        found = sorted(rank for rank, step in members.items() if step < top)
        return found if 2 * len(found) <= len(members) else []

    def state(self) -> dict[str, Any]:
        """What `restore` takes: plain JSON."""
        return {
            "generation": self._generation, "since_look": self._since_look, "usual": self.usual,
            "peers": {
                str(rank): [getattr(peer, name) for name in _Peer.__slots__] for rank, peer in self._peers.items()
            },
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self._generation, self._since_look, self.usual = state["generation"], state["since_look"], state["usual"]
        self._peers = {}
        for rank, numbers in state["peers"].items():
            peer = self._peers[int(rank)] = _Peer()
            for name, number in zip(_Peer.__slots__, numbers, strict=True):
                setattr(peer, name, number)


def words(ranks: Iterable[int]) -> str:
    """`rank 3`, `ranks 0–3, 7`."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    parts = [str(a) if a == b else f"{a}–{b}" if b > a + 1 else f"{a}, {b}" for a, b in runs]
    one = len(runs) == 1 and runs[0][0] == runs[0][1]
    shown = ", ".join(parts[:12]) + (" …" if len(parts) > 12 else "")
    return f"rank {shown}" if one else f"ranks {shown}"
