"""One watched run: from what its eye saw, through journal and engine, to log, events and store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from smart_monitor import __version__
from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.daemon import state
from smart_monitor.daemon.events import Events
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.lock import RunLock
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.telling import Teller
from smart_monitor.daemon.vitals import vitals, write_vitals
from smart_monitor.daemon.wake import Wake
from smart_monitor.engine import Engine
from smart_monitor.journal import Journal, read_journal
from smart_monitor.model import (
    HOST,
    OUTCOME,
    RECORD,
    STATE,
    TICK,
    Decision,
    Finding,
    IncidentEvent,
    Output,
    Record,
    finding_json,
)
from smart_monitor.registry import rule_classes
from smart_monitor.snapshots.store import Choice, Intent, Store, StoreEvent
from smart_monitor.sources import Pass, Sight
from smart_monitor.sources.status_json import StatusFile

SAVE_EVERY = 30.0
HUNG = 10.0
"""Seconds after which a read that has not returned makes its run blind."""


class Run:
    """A run under watch. Everything here happens on the daemon's main thread."""

    def __init__(self, place: Place, settings: Settings, log: Log, *, judge_all: bool = False, dry: bool = False) -> None:
        self.place, self.settings, self.log = place, settings, log
        self.judge_all, self.dry = judge_all, dry
        self.name = place.base.resolve().name or "run"
        self.lock = RunLock(place.lock)
        self.opened = False
        self.sight = Sight(False, "not looked yet", str(place.base))
        self.word = ""
        """The trainer's last state word."""
        self.last_seen: float | None = None
        self.holes = 0
        """Steps that passed unseen while the monitor was down."""
        self.met = False
        """Has the first pass over the run been taken in?"""
        self._beat = self._blind_since = time.monotonic()
        self._saved = 0.0
        self._dirty = False
        self._oddities: set[str] = set()
        self._trouble = ""
        self._best_raw: tuple[int, bytes] | None = None
        self._kept: tuple[str, float] | None = None

    # -- opening and closing ----------------------------------------------------------------------

    def open(self, deliver: Callable[[Eye, Pass], None]) -> None:
        """Begin (or begin again, after the directory came back). Raises Held, or OSError where nothing can be written."""
        place = self.place
        place.settle()
        self.lock = RunLock(place.lock)
        if not self.dry:
            self.lock.acquire()
        self.log.open(place.logs)
        self.engine = Engine(self.name, self.settings, rule_classes())
        self.journal = Journal(place.journal, self.name)
        self.journal.open()
        saved, trouble = state.load(place, self.engine)
        if trouble:
            self.log.warning(trouble)
        self.events = Events(place.logs)
        self.teller = Teller(self.log, self.events)
        behind = self.journal.number > saved.number
        self.events.open(remember=behind)
        self.history = not self.journal.number and not self.judge_all and not self.met
        self.store = Store(place.out, self.settings)
        self.shelf = Shelf(place.base, network_quiet=self.settings.network_quiet)
        for sentence in self.store.sweep():
            self.log.info(sentence)
        self.opened = True
        self._told(self.store.recover())
        self._refold(saved.number)
        self.events.forget()
        self.journal.number = max(self.journal.number, saved.number)
        self.journal.records = max(self.journal.records, saved.records)
        self.cursor = saved.cursor
        self.resumed = self.journal.number > 0
        source = StatusFile(place.base, self.name, int(self.settings.max_status_mb * 2**20))
        self.eye = Eye(source, dict(self.cursor), deliver)
        self.wake = Wake(self.eye, source.paths) if self.settings.watchdog else None
        self.log.info(f"Smart Monitor {__version__} watches {place.base}; logs and snapshots go to {place.out}")
        if self.resumed:
            self.log.info(f"Resumed: {self.journal.records} records in the journal, last step {self.last_step}")
        self.eye.start()
        if self.wake is not None:
            self.wake.check()

    def _refold(self, number: int) -> None:
        """After a crash: fold what the state does not hold yet; what was told already is not told again."""
        for _, record in read_journal(self.place.journal, self.name, number):
            self.perform(self.engine.feed(record), None)
            if record.kind == STATE:
                self.word = record.state

    def detach(self, why: str) -> None:
        """The run's directory was taken from under us: stop writing, and wait for it to come back."""
        self.log.close()
        self.log.warning(f"{self.place.out}: {why}; waiting for it to come back")
        self._close_files()
        self.store.stop(0.0)
        self.sight = Sight(False, why, str(self.place.base))
        self._blind_since = time.monotonic()

    def close(self, grace: float) -> None:
        """The end: let a copy finish within `grace` seconds, save, let go."""
        self.eye.close()
        if self.store.busy and grace:
            self.log.info(f"A snapshot is being copied; waiting up to {grace:g} s for it")
        self.store.stop(grace)
        self._told(self.store.pump(time.time(), self._choose))
        self.save(durable=True)
        self.log.info("Smart Monitor stops")
        self.log.close()
        self._close_files()

    def _close_files(self) -> None:
        self.opened = False
        self.eye.close()
        if self.wake is not None:
            self.wake.close()
        self.journal.close()
        self.events.close()
        self.lock.release()

    def present(self) -> bool:
        """Is our place still the one that we opened?"""
        return self.dry or self.lock.is_ours()

    # -- what comes in ----------------------------------------------------------------------------

    def take(self, seen: Pass) -> None:
        """One pass of the eye: journal, judge, perform."""
        first, self.met = not self.met, True
        was = self.sight.ok
        self.sight = seen.sight
        if was and not self.sight.ok:
            self._blind_since = time.monotonic()
        for oddity in seen.oddities:
            if oddity not in self._oddities and len(self._oddities) < 100:
                self._oddities.add(oddity)
                self.log.warning(oddity)
        if seen.heartbeat or seen.records:
            self._beat = time.monotonic()
        if self.wake is not None:
            self.wake.heard()
        historical = first and self.history
        new = [(i, r) for i, r in enumerate(seen.records) if not self._again(r)]
        records = [r for _, r in new if r.kind == RECORD]
        if records and not historical:
            self._state_hole(records[0])
        for position, record in new:
            self._fold(record._replace(historical=historical), seen.raws.get(position))
        if historical and records:
            steps = f"step {records[-1].step}" if len(records) == 1 else f"steps {records[0].step}–{records[-1].step}"
            self.log.info(f"Caught up: {len(records)} record{'s' * (len(records) != 1)} stood there already ({steps})")
        self.cursor = seen.cursor
        self._dirty = True
        self._complain()

    def _again(self, record: Record) -> bool:
        """After a crash the cursor may be older than the journal: is this the record it ends with?"""
        last = self.journal.last.pop(record.source, None)
        return last is not None and all(
            getattr(last, f) == getattr(record, f) for f in ("kind", "step", "rank", "state", "values", "nulls")
        )

    def _state_hole(self, record: Record) -> None:
        if not self.resumed:
            return
        self.resumed = False
        judge = self.engine.judge(record.rank)
        if judge is None or judge.attempts.last is None or record.step is None:
            return
        missed = record.step - judge.attempts.last
        if judge.attempts.pace and missed > 1.5 * judge.attempts.pace:
            self.holes += missed - 1
            self.log.warning(
                f"Not seen: what passed between step {judge.attempts.last} and step {record.step} while the monitor was down"
            )

    def _fold(self, record: Record, raw: bytes | None) -> None:
        if record.kind == RECORD:
            record = record._replace(index=self.journal.records)
        else:
            record = record._replace(index=max(0, self.journal.records - 1))
        self.journal.append(record)
        outputs = self.engine.feed(record)
        judge = self.engine.judge(record.rank)
        if record.kind == RECORD and judge is not None:
            self.last_seen = record.seen
            self.word = "training"
            self.log.step(record, judge.step, judge.previous)
        elif record.kind == STATE and record.state != self.word:
            self.word = record.state
            self.log.info(f"The trainer says: {record.state}" + (f" ({record.note})" if record.note else ""))
        if outputs:
            self.perform(outputs, raw)

    def tick(self, figures: dict[str, float]) -> None:
        """Time has passed: host figures, sight, scans, vitals."""
        now, mono = time.time(), time.monotonic()
        self._check_eye(mono)
        values = figures | {"heartbeat_age": round(mono - self._beat, 1)}
        if not self.sight.ok:
            values["blind"] = round(mono - self._blind_since, 1)
        record = Record(
            self.name, HOST, max(0, self.journal.records - 1), seen=now, values=values, kind=TICK, note=self.sight.why
        )
        self.journal.append(record)
        self.perform(self.engine.feed(record), None)
        if self.wake is not None and (mended := self.wake.check()):
            self.log.warning(mended)
        self.shelf.scan(now)
        self.log.flush_steps()
        self._complain()
        self._dirty = True
        if mono - self._saved >= SAVE_EVERY:
            self.save(durable=False)
        write_vitals(self.place, vitals(self))

    def _check_eye(self, mono: float) -> None:
        silent = mono - self.eye.last_pass
        if silent > HUNG and self.sight.ok:
            self._blind_since = self.eye.last_pass
            self.sight = Sight(False, f"the last read has not returned for {silent:.0f} s (a hung mount?)", str(self.place.base))

    # -- what goes out ----------------------------------------------------------------------------

    def perform(self, outputs: Sequence[Output], raw: bytes | None) -> None:
        """Do what the engine says. Promises to keep come first: they must survive whatever follows."""
        for output in outputs:
            if isinstance(output, Decision) and not output.gated:
                self._keep(output, raw)
        told = False
        for output in outputs:
            if isinstance(output, Finding):
                told |= self.teller.finding(output)
            elif isinstance(output, IncidentEvent):
                told |= self.teller.incident(output)
            elif output.gated:
                self.teller.gated(output)
                if "best_model" in output.kinds and raw is not None:
                    self._best_raw = (output.record, raw)  # the status of a best model, for when its gate opens
        if told:
            self.journal.sync()
            self.events.sync()
            self.save(durable=True)

    def _keep(self, decision: Decision, raw: bytes | None) -> None:
        if self.teller.was_told(decision):
            return
        if self.dry:
            self.log.alert(f"Would keep a snapshot: {decision.reason}")
            return
        if decision.only_if_newer and not self._newer_checkpoint():
            self.log.info(f"No newer checkpoint to keep for {decision.reason}")
            return
        if self._best_raw is not None and self._best_raw[0] == decision.record:
            raw = self._best_raw[1]
        facts = dict(decision.facts) | {
            "run": self.name, "rank": decision.rank, "attempt": decision.attempt, "step": decision.step,
            "onset_step": decision.onset_step, "triggers": list(decision.triggers),
            "findings": [finding_json(f) for f in decision.findings],
            "monitor": {"version": __version__, "config": _shown(self.settings)},
        }  # fmt: skip
        self.store.begin(decision, facts, raw, time.time())

    def _newer_checkpoint(self) -> bool:
        self.shelf.scan(time.time())
        found = self.shelf.newest(self._since(), time.time())
        return found is not None and (found.path, found.completed) != self._kept

    def _since(self) -> float | None:
        judge = self.engine.judge()
        return judge.attempts.since if judge is not None else None

    def _choose(self, intent: Intent) -> Choice:
        """The newest complete checkpoint, and the model files beside it, for a promise to be kept now."""
        now = time.time()
        self.shelf.scan(now)
        checkpoint, model = self.shelf.newest(self._since(), now), self.shelf.model_files()
        if checkpoint is not None:
            self._kept = (checkpoint.path, checkpoint.completed)
            return Choice(checkpoint=checkpoint, model=model)
        unfinished = self.shelf.incomplete(now)
        if unfinished:
            return Choice(model=model, wait=unfinished[0])
        why = f"no checkpoint in {self.place.base / 'current_model'} or {self.place.base}"
        return Choice(model=model, missing=({"what": "checkpoint", "why": why},))

    def pump(self) -> None:
        """Drive the store on and tell how its promises went."""
        self._told(self.store.pump(time.time(), self._choose))

    def _told(self, told: Sequence[StoreEvent]) -> None:
        for done in told:
            index = max(0, self.journal.records - 1)
            outcome = Record(
                self.name,
                "store",
                index,
                seen=time.time(),
                kind=OUTCOME,
                state=done.state,
                note=done.why,
                ids={"decision": done.id},
            )
            if not self.teller.outcome(done, self.place.snapshots):
                continue
            self.journal.append(outcome)
            self.perform(self.engine.feed(outcome), None)
            self.events.sync()

    def _complain(self) -> None:
        """Say once when our own files can't be written, and once when they can again."""
        trouble = self.journal.trouble or self.events.trouble
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                self.log.error(f"Journal or events can't be written ({trouble}); lines wait in memory")
            else:
                self.log.info("Journal and events are written again")

    def save(self, *, durable: bool) -> None:
        """Save the state if anything changed since."""
        self._saved = time.monotonic()
        saved = state.Saved(self.journal.number, self.journal.records, self.cursor)
        try:
            state.save(self.place, self.engine, saved, durable=durable)
            self._dirty = False
        except OSError as error:
            self.log.error(f"The state can't be saved ({error.strerror}); the journal holds everything")

    def configure(self, settings: Settings) -> None:
        """Go on with other settings (SIGHUP)."""
        self.settings = settings
        self.engine.configure(settings)
        self.store.settings = settings

    @property
    def last_step(self) -> int | None:
        judge = self.engine.judge()
        return judge.step if judge is not None else None

    @property
    def ended(self) -> bool:
        return self.met and self.word in ("completed", "crashed")


def _shown(settings: Settings) -> dict[str, Any]:
    return {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(settings).items()}
