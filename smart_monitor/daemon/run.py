"""One watched run: from what its eye saw, through journal and engine, to log, events and store."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from smart_monitor import __version__
from smart_monitor.checkpoints.mounts import mount_point
from smart_monitor.config import Settings
from smart_monitor.daemon import recovery, state
from smart_monitor.daemon.complaint import Complaint
from smart_monitor.daemon.contact import Contact, hole
from smart_monitor.daemon.events import Events
from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.keeper import Keeper, status_of
from smart_monitor.daemon.lock import RunLock
from smart_monitor.daemon.log import Log
from smart_monitor.daemon.outlook import Outlook
from smart_monitor.daemon.place import Place
from smart_monitor.daemon.pool import Pool
from smart_monitor.daemon.telling import NOT_NEWER, Teller
from smart_monitor.daemon.trainer import Trainer
from smart_monitor.daemon.vitals import fresh_for, vitals, write_vitals
from smart_monitor.daemon.wake import Wake
from smart_monitor.engine import Engine
from smart_monitor.following import RunSource
from smart_monitor.following.part import amount
from smart_monitor.journal import Journal
from smart_monitor.model import HOST, OUTCOME, RECORD, STATE, TICK, Decision, Finding, IncidentEvent, Output, Record
from smart_monitor.names import clean
from smart_monitor.registry import rule_classes
from smart_monitor.snapshots.remote.process import RemoteCopies
from smart_monitor.snapshots.store import StoreEvent
from smart_monitor.sources import Pass

SAVE_EVERY = 30.0
SAVE_AT_MOST = 1.0
"""Seconds between two saves for findings: in a storm of them the journal alone is enough."""
MAX_ODDITIES = 100


class Run:
    """A run under watch. Everything here happens on one thread at a time."""

    def __init__(
        self, place: Place, settings: Settings, log: Log, *, judge_all: bool = False, dry: bool = False, watchdog: bool = True
    ) -> None:
        self.place, self.settings, self.log = place, settings, log
        self.judge_all, self.dry, self.watchdog = judge_all, dry, watchdog
        self.name = clean(place.base.resolve().name) or "run"
        self.lock = RunLock(place.lock)
        self.outlook = Outlook(log, place.base)
        self.trainer = Trainer(log, settings.pid)
        self.opened = False
        self.word = ""
        """The trainer's last state word."""
        self.last_seen: float | None = None
        self.unseen = 0
        """Steps that passed unseen while the monitor was down."""
        self.contact = Contact(met=False, whole=judge_all)
        self.stirred = False
        """Did something happen that `attend` has to see to at once?"""
        self.rests = ""
        """Why it is let go while its monitor goes on; empty if it is not."""
        self.news = False
        """Was anything told, or met, that the vitals do not say yet?"""
        self.eye: Eye | None = None
        self.wake: Wake | None = None
        self._saved = self._vital = 0.0
        self._oddities: set[str] = set()
        self.complaint = Complaint(log)

    # -- opening and closing ----------------------------------------------------------------------

    def open(self, deliver: Callable[[Eye, Pass | None], None], pool: Pool, crowded: Callable[[], bool]) -> None:
        """Begin (or begin again, after the directory came back). Raises Held, or OSError where nothing can be written."""
        self.place.settle()
        self.lock = RunLock(self.place.lock)
        if not self.dry:
            self.lock.acquire()
        try:
            self._open()
        except BaseException:
            self._close_files()
            raise
        self._look(deliver, pool, crowded)

    def _open(self) -> None:
        place = self.place
        self.log.open(place.logs)
        self.engine = Engine(self.name, self.settings, rule_classes())
        self.journal = Journal(place.journal, self.name)
        self.events = Events(place.logs)
        self.teller = Teller(self.log, self.events)
        self.journal.open()
        saved, trouble = state.load(place, self.engine)
        out = "a dry run, of which nothing is kept" if self.dry else f"logs and snapshots go to {place.out}"
        self.log.info(f"Smart Monitor {__version__} watches {place.base}; {out}")
        if trouble:
            self.log.warning(trouble)
        self.keeper = Keeper(place, self.name, self.settings, self.engine, hold=not (self.dry or self.judge_all))
        for sentence in self.keeper.store.sweep():
            self.log.info(sentence)
        self.remote = RemoteCopies(place.out, self.name, [place.base, place.out], self.settings, dry=self.dry)
        self.word, self.unseen = saved.word, saved.unseen
        self.trainer.restore(saved.process)
        again = recovery.recover(self, saved)
        self.contact.begin(met=saved.met or again.lived)
        self.source = RunSource(self.place.base, self.name, self.settings, final=self.judge_all)
        # Where the state is older than the journal: what stands in that is not to be read as new.
        self.cursor = self.source.taken_up(saved.cursor, again.last, again.counts)
        behind = self.journal.number > saved.number
        self.journal.number = max(self.journal.number, saved.number)
        self.journal.records = max(self.journal.records, saved.records)
        self.resumed = self.journal.number > 0
        if self.resumed:
            count, last = self.journal.records, "" if self.last_step is None else f", last step {self.last_step}"
            self.log.info(f"Resumed: {count} record{'s' * (count != 1)} in the journal{last}")
        self.opened = self.stirred = True
        if behind:
            self.save(durable=False)

    def _look(self, deliver: Callable[[Eye, Pass | None], None], pool: Pool, crowded: Callable[[], bool]) -> None:
        self.eye = Eye(self.source, dict(self.cursor), deliver, self.keeper.holding.glance, crowded)
        self.wake = Wake(self.eye, lambda: self.source.paths, pool) if self.settings.watchdog and self.watchdog else None
        self.outlook.begin(self.eye)
        self.eye.start(pool, mount_point(self.place.base.absolute()))
        if self.wake is not None:
            self.wake.check()

    def detach(self, why: str) -> None:
        """The run's directory was taken from under us: stop writing, and wait for it to come back."""
        self.log.close()
        self.log.warning(f"{self.place.out}: {why}; waiting for it to come back")
        self._close_files()
        self.keeper.stop(0.0)
        self.remote.stop()
        self.outlook.lose(why)

    def close(self, grace: float) -> None:
        """The end: let a copy finish within `grace` seconds, save, let go."""
        assert self.eye is not None
        self.eye.close()
        if not self.present():
            self._close_files()
            return
        store = self.keeper.store
        if store.busy and grace:
            self.log.info(f"A snapshot is being copied; waiting up to {grace:.0f} s for it")
        self.keeper.stop(grace)
        self.remote.stop()
        self.pump()
        if store.open:
            self.log.info(f"{len(store.open)} promised snapshots will be made after the next start")
        self.save(durable=True)
        self.refresh_vitals(stopped=True)
        for told in self.seen:
            self.log.info(f"Seen of {told['name']}: {amount(told)}")
        self.log.info(f"Let go: {self.rests}; it is taken up again when it moves" if self.rests else "Smart Monitor stops")
        self._close_files()

    def _close_files(self) -> None:
        self.opened = False
        if self.eye is not None:
            self.eye.close()
        if self.wake is not None:
            self.wake.close()
            self.wake = None
        self.trainer.close()
        self.journal.close()
        self.events.close()
        self.log.close()
        self.lock.release()

    def present(self) -> bool:
        """Is our place still the one that we opened?"""
        return self.dry or self.lock.is_ours()

    # -- what comes in ----------------------------------------------------------------------------

    def take(self, seen: Pass) -> None:
        """One pass of the eye: journal, judge, perform."""
        if self.outlook.see(seen):
            self.refresh_vitals()
        for oddity in seen.oddities:
            if oddity not in self._oddities and len(self._oddities) < MAX_ODDITIES:
                self._oddities.add(oddity)
                self.log.warning(oddity)
        if self.wake is not None:
            self.wake.heard()
        historical = self.contact.historical
        self.stirred |= not self.met  # with this pass, all may be met
        records = [r for r in seen.records if r.kind == RECORD]
        if self.resumed and records and not historical:
            self._state_hole(records[0])
        told = False
        for position, record in enumerate(seen.records):
            told |= self._fold(record, seen.raws.get(position), historical=historical)
        self.cursor = seen.cursor
        if self.contact.over(seen, records, self.log) or seen.news:
            self.save(durable=False)  # what each metric is judged from from now on is not said by the journal
            self.news = self.stirred = True
        self._settle(told)

    def _state_hole(self, record: Record) -> None:
        self.resumed = False
        missed, sentence = hole(record, self.engine.judge(record.rank))
        self.unseen += missed
        if sentence:
            self.log.warning(sentence)

    def _fold(self, record: Record, raw: bytes | None, *, historical: bool = False) -> bool:
        # Records are numbered by themselves; for all other lines the number in the journal keeps ids apart.
        number = self.journal.records if record.kind == RECORD else self.journal.number
        record = record._replace(index=number, historical=historical)
        self.journal.append(record)
        outputs = self.judge(record)
        self.heed(record)
        if record.kind == RECORD and not historical:
            self.keeper.holding.heed(record)
        return self.perform(outputs, raw if raw is not None else status_of(record)) if outputs else False

    def judge(self, record: Record) -> list[Output]:
        """The engine's outputs. What it can't digest is said and passed over: watching goes on."""
        try:
            return self.engine.feed(record)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if what not in self._oddities:
                self._oddities.add(what)
                self.log.error(f"Judging failed on record {record.index} ({what}); it is passed over")
            return []

    def heed(self, record: Record, *, again: bool = False) -> None:
        """Log and remember what a line says of the trainer. `again`: after a crash, it was logged already."""
        judge = self.engine.judge(record.rank)
        self.trainer.heed(record)
        if record.kind == RECORD and judge is not None:
            self.last_seen = record.seen
            if not self.trainer.is_late(record, began=judge.attempts.records == 1):
                self.word = "training"
            if not again:
                self.log.step(record, judge.step, judge.previous)
        elif record.kind == STATE and record.state != self.word:
            self.word = record.state
            self.news = self.stirred = True
            if not again:
                self.log.info(f"The trainer says: {record.state}" + (f" ({record.note})" if record.note else ""))

    def tick(self, figures: dict[str, float]) -> None:
        """Time has passed: host figures, sight, what of the file system to listen to."""
        now, mono = time.time(), time.monotonic()
        sight, why = self.outlook.figures(mono, () if self.ended else self.seen)
        tick = Record(self.name, HOST, 0, seen=now, values=figures | sight, kind=TICK, note=why)
        told = self._fold(self.trainer.tick(tick, self.word, self.engine.judge()), None)
        if self.wake is not None and (mended := self.wake.check()):
            self.log.warning(mended)
        self._settle(told)
        self.stirred = True
        if mono - self._saved >= SAVE_EVERY:
            self.save(durable=False)

    def attend(self, mono: float) -> None:
        """Every few seconds at least, and whenever it `stirred`: a hung read, checkpoints, the store, vitals that grow old."""
        self.stirred = False
        self.log.flush()
        self.events.flush()
        self._complain()
        if self.outlook.check(mono):
            self.refresh_vitals()
        if not self.outlook.is_late(mono):  # else this thread would hang as well
            for sentence in self.keeper.attend(mono, self.word):
                self.log.warning(sentence)
            self.pump()
        for level, text in self.remote.pump(mono):
            self.log.say(level, text)
        if why := self.remote.alarm(mono):
            self._settle(self._fold(self._outcome("unsent", why), None))
        if self.trainer.glance(mono):
            self.tick({})
        if mono - self._vital >= fresh_for(self):
            self.refresh_vitals()

    # -- what goes out ----------------------------------------------------------------------------

    def perform(self, outputs: Sequence[Output], raw: bytes | None) -> bool:
        """Do what the engine says; was anything told? Promises to keep come first: they must survive whatever follows."""
        self.stirred = True
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
                self.teller.gated(output, output.gated)
                self.keeper.remember_status(output, raw)
        return told

    def _keep(self, decision: Decision, raw: bytes | None) -> None:
        if self.dry:
            self.log.alert(f"Would keep a snapshot: {decision.reason}")
        elif not self.teller.was_settled(decision):
            self.journal.sync()  # a promise that outlives a power cut needs the line that it came from
            if not self.keeper.keep(decision, raw):
                self.teller.gated(decision, NOT_NEWER)

    def pump(self) -> None:
        """Drive the store on and tell how its promises went."""
        self.told(self.keeper.pump())

    def told(self, events: Sequence[StoreEvent], journaled: Container[tuple[str, str]] = ()) -> None:
        """Outcomes of promises: journal, judge, tell, each once. `journaled`: those whose line stands already."""
        for done in events:
            if self.teller.has_outcome(done):
                continue
            outputs: list[Output] = []
            if (done.id, done.state) not in journaled:
                line = self._outcome(done.state, done.why, {"decision": done.id})
                self.journal.append(line)
                outputs = self.judge(line)
            self.teller.outcome(done, self.place.snapshots)
            if done.state == "published":
                self.remote.wake(done.name)
            self.perform(outputs, None)
            self._settle(True)

    def _outcome(self, state: str, why: str, ids: dict[str, str] | None = None) -> Record:
        number = self.journal.number
        return Record(self.name, "store", number, seen=time.time(), kind=OUTCOME, state=state, note=why, ids=ids or {})

    def _settle(self, told: bool) -> None:
        """What was told must not be told again after a crash: to the disk with it."""
        if told:
            self.news = True
            self.journal.sync()
            self.events.sync()
            # In the middle of a recovery there is no state yet that could be saved.
            if self.opened and time.monotonic() - self._saved >= SAVE_AT_MOST:
                self.save(durable=True)

    def _complain(self) -> None:
        lost = self.journal.lost + self.events.lost + self.log.lost
        self.complaint.hear(self.journal.trouble or self.events.trouble or self.log.trouble, lost)

    def save(self, *, durable: bool) -> None:
        """Save the state, unless lines that belong before it are not on the disk yet."""
        self._saved = time.monotonic()
        self.journal.sync()
        self.events.sync()
        if self.journal.trouble or self.events.trouble:
            return  # after a crash the older state and the journal tell what these lines would have told
        saved = state.Saved(
            self.journal.number, self.journal.records, self.cursor, self.events.size, self.word, self.unseen,
            self.trainer.state(), self.contact.met,
        )  # fmt: skip
        try:
            state.save(self.place, self.engine, saved, durable=durable)
        except OSError as error:
            self.complaint.no_state(error)

    def refresh_vitals(self, *, stopped: bool = False) -> None:
        """Write how the run and its monitor are, for `status` and `doctor`."""
        self._vital, self.news = time.monotonic(), False
        if self.opened and not self.dry:
            write_vitals(self.place, vitals(self, stopped=stopped))

    def configure(self, settings: Settings) -> None:
        """Go on with other settings (SIGHUP)."""
        self.settings = settings
        if self.opened:
            self.engine.configure(settings)
            self.keeper.configure(settings)
            self.remote.configure(settings)
            self.source.configure(self.settings)
            self.stirred = True

    @property
    def last_step(self) -> int | None:
        judge = self.engine.judge()
        return judge.step if judge is not None else None

    @property
    def met(self) -> bool:
        """Was all taken in that stood there when we met the run, and when we came back to it?"""
        return self.contact.met and self.contact.current

    @property
    def seen(self) -> Sequence[Mapping[str, Any]]:
        """What is read, how much of it was seen and how old it is (`Part.told`)."""
        return self.source.summary if self.eye is not None else ()

    @property
    def ended(self) -> bool:
        return self.met and (self.word in ("completed", "crashed") or self.trainer.over)
