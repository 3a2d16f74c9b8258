"""Holding: when to look at the trainer's checkpoints, which of the holds to keep, and what there is to choose from."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import Any

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.daemon.place import Place, read_small
from smart_monitor.daemon.standing import Standings
from smart_monitor.engine import Engine
from smart_monitor.model import SCHEMA, Checkpoint, Record, to_json
from smart_monitor.snapshots.choose import Option
from smart_monitor.snapshots.folders import write_atomically
from smart_monitor.snapshots.hold import Hold
from smart_monitor.snapshots.holds import Holds

BEAT = 0.1
"""Seconds between two scans while a checkpoint is whole but its writer may not be done."""
SHARE = 0.05
"""Share of the time that scans may take."""
RESCAN = 30.0
"""Seconds after which a scan is made even if nothing seems to have stirred."""
CHECK = 2.0
"""Seconds between two looks at the disk while it is nearly full; holds are given back one kind at a time."""
ABANDONED = 600.0
"""Seconds after which a checkpoint that is not whole and does not change any more is told: nobody holds it."""
QUIET = 60.0
LINES = 5
"""Lines about holds within that time at most."""
ROOM = 1.2
"""Checkpoints of the largest size that the trainer is left room for before our holds go."""


class Holding:
    """The shelf and the holds of one run. All but `glance` happens on the daemon's main thread."""

    def __init__(self, place: Place, settings: Settings, engine: Engine, *, active: bool) -> None:
        self._place, self._settings, self._engine = place, settings, engine
        self.active = active
        """Are checkpoints held, or only found?"""
        self.shelf = Shelf(place.base, network_quiet=settings.network_quiet)
        self.holds = Holds(str(place.hidden / "holds"), settings.hold_ring)
        self.standings = Standings()
        self.extra: dict[str, Any] = {}
        """What else is to be remembered beside the standings, plain JSON."""
        self.tight = False
        """Is the disk so full that holds are given back?"""
        self.named: frozenset[str] = frozenset()
        """Holds that promises name: they are never given back."""
        self._unsaid = self._lines = 0
        self._spoke = time.monotonic()
        self.fresh: list[Checkpoint] = []
        """Found complete since the last turn."""
        self.ended = False
        """Has the run completed?"""
        self._stirred, self._settling = True, False
        self._scanned = self._next = self._checked = self._given = float("-inf")
        self._known = False
        self._abandoned: set[str] = set()
        self._load()
        if active:
            self.holds.recover()

    # -- when to look -----------------------------------------------------------------------------

    def glance(self) -> bool:
        """From the eye's thread, every half second: is it worth a scan?"""
        return self.shelf.watch.stirred()

    def stir(self) -> None:
        """Something changed where checkpoints lie."""
        self._stirred = True

    @property
    def restless(self) -> bool:
        """Must the main thread come back soon?"""
        return self._stirred or self._settling or self.holds.eager.busy

    def turn(self, mono: float, *, ended: bool) -> list[Checkpoint]:
        """One turn of the loop: look if it is due, hold, give back; the checkpoints found complete since the last turn."""
        changed, self.ended = ended != self.ended, ended
        if ((self._stirred or self._settling) and mono >= self._next) or mono - self._scanned >= max(
            RESCAN, self._settings.poll_interval
        ):
            self.look()
            changed = True
        if (
            self.active
            and self.holds.eager.busy
            and (copied := self.holds.pump(mono, self._settings.copy_rate_mb * 2**20, self._reserve()))
        ):
            self._meet(h.checkpoint for h in copied)
            changed = True
        if changed or (self.tight and mono - self._checked >= CHECK):
            self.trim()
        if not self.fresh:
            return []
        fresh, self.fresh = self.fresh, []
        return fresh

    def look(self) -> None:
        """Scan, and hold what is there."""
        began = time.monotonic()
        self._stirred = False
        self.shelf.scan(time.time())
        found = self.shelf.complete()
        if self.active:
            whole = [(c, True) for c in found] + self.shelf.settling()
            judge = self._engine.judge()
            self.holds.attempt = judge.attempts.number if judge is not None else 1
            found += [h.checkpoint for h in self.holds.meet(whole, self.shelf.unfinished(), take=not (self.tight or self.ended))]
            self.holds.check()
            self._name_abandoned()
        self._settling = self.holds.growing or bool(self.shelf.settling())
        self._scanned = time.monotonic()
        self._next = self._scanned + max(BEAT, (self._scanned - began) / SHARE)
        self._meet(found)

    def _name_abandoned(self) -> None:
        """Say once of what would be the newest checkpoint what keeps it from being held, if nobody goes on writing it."""
        whole = [*self.shelf.complete(), *(h.checkpoint for h in self.holds.complete)]
        found = self.shelf.abandoned(ABANDONED, max((c.step for c in whole if c.step is not None), default=-1))
        told = [why for path, why in found.items() if path not in self._abandoned]
        self.holds.said += [f"{why}; nothing changed in it for {ABANDONED / 60:g} minutes, so it is not held" for why in told]
        self._abandoned = set(found)

    def _meet(self, found: Iterable[Checkpoint]) -> None:
        fresh = [c for c in found if self.standings.meet(c, first=not self._known, engine=self._engine)]
        self._known = True
        self.fresh += fresh
        if fresh:
            self.save()

    def heed(self, record: Record) -> None:
        """After each record judged as news."""
        if self.standings.heed(record, self._engine):
            self.trim()
            self.save()

    # -- what there is ----------------------------------------------------------------------------

    def options(self) -> list[Option]:
        """Every complete checkpoint there is, from its hold where there is one."""
        found = [self._option(self.holds.noun(h), h.folder) for h in self.holds.complete]
        held = self.holds.complete
        return found + [self._option(c, "") for c in self.shelf.complete() if not any(h.is_of(c) or h.outlives(c) for h in held)]

    def _option(self, found: Checkpoint, hold: str) -> Option:
        return Option(found, self.standings.calm(found), self.standings.proven(found), hold)

    def secure(self, option: Option) -> Option | None:
        """An option made safe by a hold where that is possible; None if its hold turned out to be spoiled."""
        if not self.active:
            return option
        hold = self.holds.get(option.hold) if option.hold else self.holds.secure(option.checkpoint)
        if hold is None:
            return None if option.hold else option
        return option._replace(checkpoint=self.holds.noun(hold), hold=hold.folder)

    def good(self) -> Hold | None:
        """The hold in the good slot: the newest proven one."""
        return next((h for h in self.holds.complete[::-1] if self.standings.proven(h.checkpoint)), None)

    # -- what goes --------------------------------------------------------------------------------

    def trim(self) -> None:
        """Give back what nobody needs any more: the ring's surplus; under disk pressure the ring, then what may become
        the next good one, then the good one; at the end of the run everything. Never what a promise names."""
        if not self.active:
            return
        held, good = self.holds.complete, self.good()
        newer = [h for h in (held[held.index(good) + 1 :] if good else held) if self.standings.calm(h.checkpoint)]
        # A fast trainer fills the ring before fifty records have passed: one of its holds waits for its proof.
        waiting = next((h for h in newer if h.checkpoint.step is not None), newer[0] if newer else None)
        ring = held[-self._settings.hold_ring :]
        free = [h for h in held if h.folder not in self.named]
        mono, self.tight = time.monotonic(), self._is_tight()
        self._checked = mono
        if self.ended:
            going = free
        elif not self.tight:
            going = [h for h in free if h not in ring and h not in (good, waiting)]
        else:
            spare = [h for h in free if h not in (good, waiting)]
            kinds = spare, [h for h in free if h is waiting], [h for h in free if h is good]
            # What was given back is deleted beside us: only later does it show whether that was enough.
            going = next((kind for kind in kinds if kind), []) if mono - self._given >= CHECK else []
        if self.tight and going:
            self._given = mono
            self.holds.said.append(f"The disk is nearly full: {len(going)} held checkpoints are given back to the trainer")
        for hold in going:
            self.holds.give_back(hold)

    def _is_tight(self) -> bool:
        try:
            info = os.statvfs(self._place.hidden)
        except OSError:
            return False
        largest = max((c.bytes for c in [*self.shelf.complete(), *(h.checkpoint for h in self.holds.complete)]), default=0)
        return info.f_bavail * info.f_frsize < self._margin(info.f_blocks * info.f_frsize) + ROOM * largest

    def _margin(self, total: float) -> float:
        return max(self._settings.min_free_gb * 2**30, total * self._settings.min_free_percent / 100)

    def _reserve(self) -> dict[str, float]:
        largest = max((c.bytes for c in self.shelf.complete()), default=0)
        return {
            "bytes": self._settings.spare_checkpoints * largest,
            "floor": self._settings.min_free_gb * 2**30,
            "percent": self._settings.min_free_percent,
        }

    def say(self, mono: float) -> list[str]:
        """What is to be logged: a trainer that rotates faster than anyone can hold would fill the log otherwise."""
        if not self.holds.said and not self._unsaid:
            return []
        said, self.holds.said = self.holds.said, []
        if mono - self._spoke >= QUIET:
            if self._unsaid:
                share = f"{self.holds.kept} of {self.holds.met} checkpoints seen could be held in time"
                said.append(f"{self._unsaid} more lines about holds were left out; {share}")
            self._spoke, self._unsaid, self._lines = mono, 0, 0
        room = max(0, LINES - self._lines)
        self._lines += len(said[:room])
        self._unsaid += len(said[room:])
        return said[:room]

    def vitals(self) -> dict[str, Any]:
        """What is held, for `status`; plain JSON."""
        good = self.good()
        listed = [
            {
                "name": h.checkpoint.name, "source": h.checkpoint.path, "step": h.checkpoint.step, "layout": h.checkpoint.layout,
                "how": h.how, "completed": h.checkpoint.completed, "bytes": h.checkpoint.bytes, "good": h is good,
                "promised": h.folder in self.named,
            }
            for h in self.holds.complete
        ]  # fmt: skip
        copying = self.holds.eager.copying
        return {
            "met": self.holds.met, "kept": self.holds.kept, "unable": self.holds.unable, "disk_nearly_full": self.tight,
            "copying": copying.name if copying else None, "held": listed,
        }  # fmt: skip

    # -- across restarts --------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        self._settings = settings
        self.shelf = Shelf(self._place.base, network_quiet=settings.network_quiet)
        self.holds.ring = settings.hold_ring
        self._stirred = True

    def save(self) -> None:
        """Remember the standings; a full disk costs us nothing but them."""
        if self.active:
            document = {"schema": SCHEMA, "standings": self.standings.state(), "extra": self.extra}
            try:
                write_atomically(self._place.checkpoints, to_json(document).encode(), durable=False)
            except OSError:
                pass  # after a restart they are met anew, and proven anew

    def _load(self) -> None:
        try:
            document = json.loads(read_small(self._place.checkpoints))
            if document["schema"] == SCHEMA:
                self.standings.restore(document["standings"])
                self.extra = dict(document["extra"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # nothing is known, and nothing is claimed
