"""Keeping: from a decision of the engine to a promise of the store, and what it is to hold."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from smart_monitor import __version__
from smart_monitor.config import Settings
from smart_monitor.daemon.holding import Holding
from smart_monitor.daemon.place import Place
from smart_monitor.engine import Engine
from smart_monitor.model import RECORD, Checkpoint, Decision, Record, finding_json, iso, to_json
from smart_monitor.snapshots.choose import Lineage, Moment, Option, begun, distance, is_before, last_good, latest, nearest
from smart_monitor.snapshots.job import counts_steps
from smart_monitor.snapshots.store import Choice, Intent, Needs, Store, StoreEvent

NEARER = "nearer"
COMPLETED = "completed"


class Keeper:
    """The store of one run and what it takes from. Times are unix seconds. `hold` False: nothing is held, only found."""

    def __init__(self, place: Place, run: str, settings: Settings, engine: Engine, *, hold: bool = True) -> None:
        self._place, self._run, self._settings, self._engine = place, run, settings, engine
        self.store = Store(place.out, settings)
        self.holding = Holding(place, settings, engine, active=hold)
        self._name_holds()
        self._best_raw: tuple[int, bytes] | None = None
        self._kept: tuple[str, float] | None = None
        self._onset: float | None = None

    @property
    def promised(self) -> frozenset[str]:
        """The decisions whose snapshots are yet to come."""
        return frozenset(i.id for i in self.store.open)

    def keep(self, decision: Decision, status: bytes | None) -> bool:
        """Promise a snapshot, durably; False if the decision asks for a newer checkpoint and there is none."""
        self.holding.look()
        best = _is_best(decision.reason)
        onset = min((f.onset_record for f in decision.findings), default=decision.record)
        when = self.holding.standings.time_of(decision.record if best else onset)
        if not best:
            if not decision.findings:  # an incident that lasts: it began when it was found
                when = self._onset or when
            self._onset = when
        chosen, good = self._chosen(best, _moment(decision.step if best else _onset(decision), when, decision.facts))
        if decision.only_if_newer and (chosen is None or _identity(chosen.checkpoint) == self._kept):
            return False
        if self._best_raw is not None and self._best_raw[0] == decision.record:
            status = self._best_raw[1]
        facts: Mapping[str, Any] = dict(decision.facts) | {
            "run": self._run, "rank": decision.rank, "attempt": decision.attempt, "step": decision.step,
            "onset_step": decision.onset_step, "triggers": list(decision.triggers),
            "findings": [finding_json(f) for f in decision.findings],
            "monitor": {"version": __version__, "config": _shown(self._settings)},
        }  # fmt: skip
        self._promise(decision, facts, status, chosen, good, when)
        if best:
            self._follow(decision, facts, status, chosen, when)
        return True

    def remember_status(self, decision: Decision, status: bytes | None) -> None:
        """A gated best model: its status is kept until the gate opens."""
        if "best_model" in decision.kinds and status is not None:
            self._best_raw = (decision.record, status)

    def attend(self, mono: float, word: str) -> list[str]:
        """Each turn of the loop: look at the checkpoints if that is due; sentences for the log."""
        fresh = self.holding.turn(mono, ended=word == COMPLETED)
        if fresh and "follow" in self.holding.extra:
            self._take_nearer(min(fresh, key=lambda c: c.completed))
        return self.holding.say(mono)

    def pump(self) -> list[StoreEvent]:
        """Drive the store on; how its promises went."""
        told = self.store.pump(time.time(), self.choose)
        if told:
            self._name_holds()
            self.holding.trim()
        return told

    def stop(self, grace: float) -> None:
        """Start nothing more; a copy under way may end within `grace` seconds."""
        self.store.stop(grace)
        self.holding.holds.close()
        self.holding.save()

    def configure(self, settings: Settings) -> None:
        self._settings = self.store.settings = settings
        self.holding.configure(settings)

    def choose(self, intent: Intent) -> Choice:
        """What there is to keep for a promise now: what was chosen when it was given, if that still stands."""
        self.holding.look()
        best = _is_best(intent.reason)
        moment = _moment(intent.metadata["step"] if best else _onset_of(intent.metadata), intent.needs.onset, intent.metadata)
        chosen, good = self._chosen(best, moment)
        first = self._held(intent.needs.hold)
        chosen, good = first or chosen, self._held(intent.needs.good) or good
        model = self.holding.shelf.model_files()
        if chosen is None:
            return self._none(intent, model)
        found = chosen.checkpoint
        self._kept = _identity(found)
        before = is_before(found, moment)
        missing: tuple[dict[str, Any], ...] = ()
        if intent.needs.hold and first is None:
            why = "the hold on the checkpoint chosen when the decision fell was overwritten or taken away; another took its place"
            missing += ({"what": "first choice", "why": why},)
        if intent.needs.good and good is None:
            missing += ({"what": "last_good", "why": "the hold on the last good checkpoint was overwritten or taken away"},)
        return Choice(
            checkpoint=found, model=model, last_good=None if best or good is None else good.checkpoint,
            tainted=None if best or before is None else not before, missing=missing,
            largest=max((o.checkpoint.bytes for o in self.holding.options()), default=0),
        )  # fmt: skip

    def _none(self, intent: Intent, model: Checkpoint | None) -> Choice:
        holds = self.holding.holds
        unfinished = self.holding.shelf.incomplete(time.time())
        where, lost = f"{self._place.base / 'current_model'} or {self._place.base}", ""
        if intent.needs.hold:
            lost = "the checkpoint that was held for it was overwritten or taken away, and there is no other"
        elif holds.met and not unfinished:
            lost = f"every checkpoint seen in {where} was rotated away before it could be held"
            lost += f": {holds.unable}" if holds.unable else ""
        if unfinished:
            return Choice(model=model, wait=unfinished[0], lost=lost)
        why = lost or f"no checkpoint in {where}"
        return Choice(model=model, missing=({"what": "checkpoint", "why": why},), lost=lost)

    # -- what is chosen ---------------------------------------------------------------------------

    def _chosen(self, best: bool, moment: Moment) -> tuple[Option | None, Option | None]:
        """The checkpoint that a decision about that moment is about, and the last good one before it; both held if possible."""
        judge = self._engine.judge()
        began = begun(judge.attempts.since, time.time()) if judge is not None else None
        lineage = Lineage(began, judge.attempts.track.first if judge is not None and judge.by == "step" else None)
        for _ in range(self._settings.hold_ring + 3):
            options = self.holding.options()
            found = nearest(options, lineage, moment) if best else latest(options, lineage.since)
            good = None if best else last_good(options, lineage, moment)
            chosen, safe = found and self.holding.secure(found), good and self.holding.secure(good)
            # One that was overwritten in its hold is gone from the options now, and another is chosen.
            if (chosen is None) == (found is None) and (safe is None) == (good is None):
                return chosen, safe
        return None, None

    def _held(self, folder: str) -> Option | None:
        hold = self.holding.holds.get(folder) if folder else None
        return None if hold is None else Option(self.holding.holds.noun(hold), False, False, folder)

    def _promise(
        self, decision: Decision, facts: Mapping[str, Any], status: bytes | None, chosen: Option | None, good: Option | None,
        when: float | None,
    ) -> None:  # fmt: skip
        needs = Needs(chosen.hold if chosen else "", good.hold if good else "", when)
        self.store.begin(decision, facts, status, time.time(), needs)
        self._name_holds()

    def _name_holds(self) -> None:
        self.holding.named = frozenset(name for i in self.store.open for name in (i.needs.hold, i.needs.good) if name)

    # -- a best model's next checkpoint -----------------------------------------------------------

    def _follow(
        self, decision: Decision, facts: Mapping[str, Any], status: bytes | None, chosen: Option | None, when: float | None
    ) -> None:
        """The checkpoint written next may lie nearer to the best step than the one there is."""
        away = distance(chosen.checkpoint, _moment(decision.step, when, facts)) if chosen else None
        self.holding.extra.pop("follow", None)
        self.holding.fresh.clear()  # those were there to choose from
        if away != 0.0:
            self.holding.extra["follow"] = {
                "id": decision.id, "run": decision.run, "rank": decision.rank, "attempt": decision.attempt,
                "record": decision.record, "step": decision.step, "onset_step": decision.onset_step, "reason": decision.reason,
                "triggers": list(decision.triggers), "facts": dict(facts), "away": away, "when": when,
                "status": None if status is None else base64.b64encode(status).decode(),
            }  # fmt: skip
        self.holding.save()

    def _take_nearer(self, found: Checkpoint) -> None:
        """The first checkpoint completed after a best model's: kept as well if it is nearer."""
        told = self.holding.extra.pop("follow")
        self.holding.save()
        away = distance(found, _moment(told["step"], told["when"], told["facts"]))
        if away is None or (told["away"] is not None and away >= told["away"]):
            return
        decision = Decision(
            id=f"{told['id']}:{NEARER}", run=told["run"], rank=told["rank"], attempt=told["attempt"], record=told["record"],
            step=told["step"], onset_step=told["onset_step"], reason=f"{told['reason']}_{NEARER}", kinds=("best_model",),
            triggers=tuple(told["triggers"]), severity="info", findings=(), facts={},
        )  # fmt: skip
        option = next((o for o in self.holding.options() if _identity(o.checkpoint) == _identity(found)), None)
        status = None if told["status"] is None else base64.b64decode(told["status"])
        self._promise(decision, told["facts"], status, option and self.holding.secure(option), None, told["when"])


def status_of(record: Record) -> bytes | None:
    """What stands as the trainer's status where it writes none: the row that was judged, under our names for its metrics.

    None for a status's own record, of which only the bytes themselves are evidence.
    """
    if record.kind != RECORD or record.source == "status":
        return None
    head = {"source": record.source, "rank": record.rank or None, record.by: record.step, "epoch": record.epoch}
    head |= {"total_steps": record.total, "timestamp": iso(record.time)}
    given = {name: value for name, value in head.items() if value is not None}
    return to_json(given | dict(record.values) | dict.fromkeys(record.nulls), ensure_ascii=False).encode() + b"\n"


def _moment(step: int | None, when: float | None, facts: Mapping[str, Any]) -> Moment:
    return Moment(step if counts_steps(facts) else None, when)


def _is_best(reason: str) -> bool:
    return reason.startswith("best_model")


def _identity(found: Checkpoint) -> tuple[str, float]:
    return found.origin, found.completed


def _onset(decision: Decision) -> int | None:
    return decision.step if decision.onset_step is None else decision.onset_step


def _onset_of(metadata: Mapping[str, Any]) -> int | None:
    onset = metadata.get("onset_step")
    return metadata.get("step") if onset is None else onset


def _shown(settings: Settings) -> dict[str, Any]:
    return {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(settings).items()}
