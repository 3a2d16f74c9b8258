"""Keeping: from a decision of the engine to a promise of the store, and what it is to hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from smart_monitor import __version__
from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.daemon.place import Place
from smart_monitor.model import Decision, finding_json
from smart_monitor.snapshots.store import Choice, Intent, Store, StoreEvent


class Keeper:
    """The store of one run and the shelf it takes from. Times are unix seconds."""

    def __init__(self, place: Place, run: str, settings: Settings) -> None:
        self._place, self._run, self._settings = place, run, settings
        self.store = Store(place.out, settings)
        self.shelf = Shelf(place.base, network_quiet=settings.network_quiet)
        self.since: float | None = None
        """When the attempt of the last decision began; checkpoints from before it are second choice."""
        self._best_raw: tuple[int, bytes] | None = None
        self._kept: tuple[str, float] | None = None

    @property
    def promised(self) -> frozenset[str]:
        """The decisions whose snapshots are yet to come."""
        return frozenset(i.id for i in self.store.open)

    def keep(self, decision: Decision, status: bytes | None, since: float | None) -> bool:
        """Promise a snapshot, durably; False if the decision asks for a newer checkpoint and there is none."""
        self.since = since
        if decision.only_if_newer and not self._is_there_a_newer():
            return False
        if self._best_raw is not None and self._best_raw[0] == decision.record:
            status = self._best_raw[1]
        facts: Mapping[str, Any] = dict(decision.facts) | {
            "run": self._run, "rank": decision.rank, "attempt": decision.attempt, "step": decision.step,
            "onset_step": decision.onset_step, "triggers": list(decision.triggers),
            "findings": [finding_json(f) for f in decision.findings],
            "monitor": {"version": __version__, "config": _shown(self._settings)},
        }  # fmt: skip
        self.store.begin(decision, facts, status, time.time())
        return True

    def remember_status(self, decision: Decision, status: bytes | None) -> None:
        """A gated best model: its status is kept until the gate opens."""
        if "best_model" in decision.kinds and status is not None:
            self._best_raw = (decision.record, status)

    def pump(self, since: float | None) -> list[StoreEvent]:
        """Drive the store on; how its promises went."""
        self.since = since
        return self.store.pump(time.time(), self.choose)

    def configure(self, settings: Settings) -> None:
        self._settings = self.store.settings = settings
        self.shelf = Shelf(self._place.base, network_quiet=settings.network_quiet)

    def choose(self, intent: Intent) -> Choice:
        """The newest complete checkpoint, and the model files beside it, for a promise to be kept now."""
        now = time.time()
        self.shelf.scan(now)
        checkpoint, model = self.shelf.newest(self.since, now), self.shelf.model_files()
        if checkpoint is not None:
            self._kept = (checkpoint.path, checkpoint.completed)
            return Choice(checkpoint=checkpoint, model=model)
        unfinished = self.shelf.incomplete(now)
        if unfinished:
            return Choice(model=model, wait=unfinished[0])
        why = f"no checkpoint in {self._place.base / 'current_model'} or {self._place.base}"
        return Choice(model=model, missing=({"what": "checkpoint", "why": why},))

    def _is_there_a_newer(self) -> bool:
        self.shelf.scan(time.time())
        found = self.shelf.newest(self.since, time.time())
        return found is not None and (found.path, found.completed) != self._kept


def _shown(settings: Settings) -> dict[str, Any]:
    return {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(settings).items()}
