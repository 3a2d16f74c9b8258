"""Retention: which snapshots stay and which go, and the rule behind each. A pure plan: nothing is touched here.

Untouchable are the current best model, the newest snapshot known to be sound, what a person pinned, what a
promise is still open for and what waits to be copied to the remote. Then, as in the guide's clean-up, best
models stay for ever (or so many of them) and all others for 30 days, at least the last 3 of each reason. A
limit on all bytes takes the oldest of what only its age keeps, then the oldest of the last of each reason;
never a best model within its count.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from smart_monitor.config import Settings, days_for
from smart_monitor.snapshots.listing import BEST, Snapshot

DAY = 86400.0
GIB = 2**30
AHEAD = 60.0
"""Seconds by which a snapshot's time may lie ahead of the clock before one of the two is taken to be wrong."""

_NEVER, _LAST, _AGE = 0, 1, 2
"""What a limit on bytes may take: nothing of this, these after the others, these first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one snapshot, and by which rule."""

    name: str
    keep: bool
    rule: str
    bytes: int
    """Of its files, shared ones included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A verdict for every snapshot, the oldest first. Bytes count shared storage once."""

    verdicts: tuple[Verdict, ...]
    before: int
    after: int
    limit: float = 0.0
    """Bytes that all may take; 0: any number."""

    @property
    def unmet(self) -> str:
        """Why the limit can't be met, a sentence; empty if it is."""
        if not self.limit or self.after <= self.limit:
            return ""
        over = (self.after - self.limit) / GIB
        return f"the limit of {self.limit / GIB:g} GiB is exceeded by {over:.1f} GiB of best models and what else never goes"

    @property
    def drops(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if not v.keep)


def plan(
    snapshots: Iterable[Snapshot],
    settings: Settings,
    now: float,
    *,
    pinned: Collection[str] = (),
    promised: Collection[str] = (),
    unsent: Collection[str] = (),
    sound: Collection[str] | None = None,
) -> Plan:
    """What to keep and what to drop at `now` (unix seconds).

    `pinned`, `unsent` (still to be copied to the remote) and `sound` are names, `promised` ids of decisions.
    `sound` are those known to be whole; None: all that nobody wrote to since they were verified and published.
    """
    known = sorted(snapshots, key=lambda s: (s.time, s.name))
    kept = _untouchable(known, now, pinned, promised, unsent, sound)
    rules = {s.name: kept.get(s.name) or _ordinary(s, known, settings, now) for s in known}
    limit = settings.keep_total_gb * GIB
    if limit:
        _fit(known, rules, limit)
    verdicts = tuple(Verdict(s.name, rules[s.name][0], rules[s.name][1], s.bytes) for s in known)
    return Plan(verdicts, storage(known), storage(s for s in known if rules[s.name][0]), limit)


def storage(snapshots: Iterable[Snapshot]) -> int:
    """Bytes that the files of these take on the disk: what is shared counts once."""
    return sum({(f.dev, f.ino): f.bytes for s in snapshots for f in s.files}.values())


_Rule = tuple[bool, str, int]
"""Kept?, the rule in words, what a limit on bytes may do with it."""


def _untouchable(
    known: Sequence[Snapshot],
    now: float,
    pinned: Collection[str],
    promised: Collection[str],
    unsent: Collection[str],
    sound: Collection[str] | None,
) -> dict[str, _Rule]:
    present = [s for s in known if s.time <= now + AHEAD] or known  # a wrong clock must not take the place of the real newest
    found: dict[str, _Rule] = {}
    for snapshot in known:
        if snapshot.id in promised:
            found[snapshot.name] = True, "its promise is still open", _NEVER
        if snapshot.name in unsent:
            found[snapshot.name] = True, "not yet copied to the remote", _NEVER
        if snapshot.name in pinned:
            found[snapshot.name] = True, "pinned", _NEVER
    whole = [s for s in present if (not s.touched if sound is None else s.name in sound)]
    if newest := [s for s in whole if s.weights] or whole:
        found[newest[-1].name] = True, "newest verified", _NEVER
    for snapshot in _current_bests([s for s in present if BEST in s.kinds]):
        found[snapshot.name] = True, "current best", _NEVER
    return found


def _current_bests(bests: list[Snapshot]) -> list[Snapshot]:
    """The best model announced last, and the one with the best value of the same metric, which another attempt may have had."""
    bests = [s for s in bests if s.weights] or bests
    if not bests:
        return []
    newest = bests[-1]
    metric = newest.best.metric if newest.best else ""
    sign = -1.0 if "accuracy" in metric else 1.0
    rivals = [(sign * s.best.value, -s.time, s.name, s) for s in bests if s.best and s.best.metric == metric]
    return [newest, *(s for *_, s in sorted(r for r in rivals if math.isfinite(r[0]))[:1])]


def _ordinary(snapshot: Snapshot, known: Sequence[Snapshot], settings: Settings, now: float) -> _Rule:
    if snapshot.time > now + AHEAD:
        return True, "its time lies in the future", _AGE
    past = [s for s in known if s.time <= now + AHEAD]
    if BEST in snapshot.kinds:
        rank = _rank(snapshot, past, BEST)
        if not settings.keep_bests:
            return True, "best model", _NEVER
        if rank <= settings.keep_bests:
            return True, f"best model {rank} of {settings.keep_bests}", _NEVER
        return False, f"not among the last {settings.keep_bests} best models", _NEVER
    ranks = {kind: _rank(snapshot, past, kind) for kind in snapshot.kinds}
    kind = min(ranks, key=lambda k: (ranks[k], k))
    if ranks[kind] <= settings.keep_last:
        return True, f"{kind} {ranks[kind]} of the last {settings.keep_last}", _LAST
    days = _days(snapshot.kinds, settings)
    if not days:
        return True, "no limit of age", _AGE
    if now - snapshot.time <= days * DAY:
        return True, f"within {days:g} days", _AGE
    last = f" and not among the last {settings.keep_last} of {kind}" if settings.keep_last else ""
    return False, f"older than {days:g} days{last}", _NEVER


def _rank(snapshot: Snapshot, known: Sequence[Snapshot], kind: str) -> int:
    """1 for the newest of its kind."""
    place = (snapshot.time, snapshot.name)
    return 1 + sum(1 for s in known if kind in s.kinds and (s.time, s.name) > place)


def _days(kinds: Sequence[str], settings: Settings) -> float:
    """The longest of what its reasons ask for; 0: for ever."""
    single: Mapping[str, float] = days_for(settings.keep_days_for)
    asked = [single.get(kind, settings.keep_days) for kind in kinds]
    return 0.0 if 0.0 in asked else max(asked)


def _fit(known: Sequence[Snapshot], rules: dict[str, _Rule], limit: float) -> None:
    """Drop more until what is kept fits into `limit` bytes, as far as it may be dropped."""
    kept = [s for s in known if rules[s.name][0]]
    for tier in (_AGE, _LAST):
        for snapshot in [s for s in kept if rules[s.name][2] == tier]:
            if storage(kept) <= limit:
                return
            kept.remove(snapshot)
            rules[snapshot.name] = False, f"more than {limit / GIB:g} GiB in total", _NEVER
