"""A snapshot by hand: what the daemon does at a decision, done once, beside a running daemon or without one.

No promise is written, for the one who asked waits for it; worker, lock and metadata are those of every
other snapshot. What the run was like is folded from state and journal, as the daemon would after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smart_monitor import __version__
from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.daemon import state
from smart_monitor.daemon.place import Place
from smart_monitor.engine import Engine
from smart_monitor.journal import journal_files, read_journal
from smart_monitor.model import RECORD, Checkpoint, Record
from smart_monitor.names import clean
from smart_monitor.registry import rule_classes
from smart_monitor.replay import ReplayError, read
from smart_monitor.snapshots.choose import begun
from smart_monitor.snapshots.intents import Intent
from smart_monitor.snapshots.job import Choice, job_of
from smart_monitor.snapshots.names import directory_name, stamp
from smart_monitor.snapshots.process import Worker
from smart_monitor.sources.status_json import StatusFile

REASON = "manual"
LOOK = 0.25
"""Seconds between two looks for a checkpoint that is waited for."""
MAX_CHANGED = 5


class NotTaken(Exception):
    """No snapshot could be taken; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The snapshot that now stands."""

    name: str
    path: Path
    checkpoint: Checkpoint | None
    bytes: int
    seconds: float
    missing: tuple[dict[str, Any], ...]
    unfinished: tuple[str, ...]
    """Checkpoints that were still being written, a sentence each."""


class ByHand:
    """One snapshot of the run at `place`, to be taken now."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place, self._settings = place, settings
        self._shelf = Shelf(place.base, network_quiet=settings.network_quiet)
        self._run = clean(place.base.resolve().name) or "run"

    def take(
        self,
        *,
        note: str = "",
        follow: bool = False,
        wait: float | None = None,
        waiting: Callable[[str], None] = lambda _: None,
        copying: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Taken:
        """Copy the newest complete checkpoint; with `follow` the next one that is completed, however long that takes.

        If there is none, one that is being written is waited for, at most `wait` seconds (the setting
        checkpoint_wait unless given). `waiting` is told once what is waited for; `copying` hears of bytes read
        and to be read. Raises NotTaken.
        """
        facts, since, raw = self._facts()
        if note:
            facts["note"] = note
        patience = self._settings.checkpoint_wait if wait is None else wait
        choice = self._choose(since, follow, patience, waiting)
        result: dict[str, Any] = {}
        for _ in range(MAX_CHANGED):
            result = self._copy(choice, facts, raw, copying)
            if result["result"] == "published":
                return Taken(
                    result["name"], self._place.snapshots / result["name"], choice.checkpoint, result["bytes"],
                    result["seconds"], tuple(result["missing"]), tuple(self._shelf.incomplete(time.time())),
                )  # fmt: skip
            if result["result"] != "changed":
                break
            choice = self._choose(since, False, patience, waiting)
        raise NotTaken(result["why"])

    def _choose(self, since: float | None, follow: bool, patience: float, waiting: Callable[[str], None]) -> Choice:
        began, told = time.monotonic(), False
        known: set[tuple[str, float]] | None = None if follow else set()
        while True:
            now = time.time()
            self._shelf.scan(now)
            newest, model, unfinished = self._shelf.newest(since, now), self._shelf.model_files(), self._shelf.incomplete(now)
            if known is None:
                # What is whole but not yet still is no next one either.
                there = [*self._shelf.complete(), *(noun for noun, _ in self._shelf.settling())]
                known = {(c.path, c.completed) for c in there}
            if newest is not None and (newest.path, newest.completed) not in known:
                return Choice(checkpoint=newest, model=model)
            if not follow and (not unfinished or time.monotonic() - began >= patience):
                break
            if not told:
                told = True
                waiting(unfinished[0] if unfinished else "no checkpoint is being written yet")
            time.sleep(LOOK)
        if model is None:
            where = f"{self._place.base / 'current_model'} or {self._place.base}"
            raise NotTaken("; ".join(unfinished) or f"there is no checkpoint in {where}")
        return Choice(model=model)

    def _copy(
        self, choice: Choice, facts: dict[str, Any], raw: bytes | None, copying: Callable[[int, int], None]
    ) -> dict[str, Any]:
        now, found = time.time(), [c for c in (choice.checkpoint, choice.model) if c is not None]
        size = sum(c.bytes for c in found)
        intent = Intent(
            id=f"{self._run}:{REASON}:{now:.6f}", name=directory_name(now, REASON), reason=REASON, created=now,
            timestamp=stamp(now), metadata=facts | {"reason": REASON, "triggers": [REASON], "findings": []}, status=raw,
        )  # fmt: skip
        theirs = {c.path for c in found} | ({str(Path(choice.checkpoint.path).parent)} if choice.checkpoint else set())
        job = job_of(intent, choice, self._settings, self._place.out, last_resort=False, largest=size, theirs=theirs)
        job["document"]["rollback"] = None  # nobody said that there is trouble
        try:
            worker = Worker(job)
        except OSError as error:
            raise NotTaken(f"the copying process can't be started ({error.strerror})") from error
        try:
            while (result := worker.poll()) is None:
                copying(worker.bytes, 2 * size)  # each is read once more to be verified
                time.sleep(0.02)
        except BaseException:
            worker.abandon()
            raise
        return result

    # -- what the run was like ---------------------------------------------------------------------

    def _facts(self) -> tuple[dict[str, Any], float | None, bytes | None]:
        """The figures for metadata.json, since when the attempt runs, and the trainer's status as it stands."""
        engine = self._folded()
        seen = StatusFile(self._place.base, self._run, int(self._settings.max_status_mb * 2**20)).read({}, time.time(), 0.0)
        for record in seen.records:
            judge = engine.judge()
            if record.kind == RECORD and (judge is None or (record.step or 0) > (judge.step or 0)):
                engine.feed(record)  # nobody watches, or who does has not written it down yet
        judge = engine.judge()
        shown = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(self._settings).items()}
        facts: dict[str, Any] = {"run": self._run, "monitor": {"version": __version__, "config": shown}}
        if judge is not None:
            losses, accuracies = list(judge.histories["loss"]), list(judge.histories["accuracy"])
            best = judge.rules["best_model"].memory.get("loss") if "best_model" in judge.rules else None
            facts |= {
                "rank": 0, "attempt": judge.attempts.number, "step": judge.step, "onset_step": None,
                "loss": losses[-1] if losses else None, "accuracy": accuracies[-1] if accuracies else None,
                "learning_rate": judge.rate, "loss_history": losses, "accuracy_history": accuracies,
                "best_loss": best["best"] if best else None, "best_loss_step": best["step"] if best else None,
            }  # fmt: skip
        raw = next(reversed(seen.raws.values()), None) if seen.raws else None
        return facts, begun(judge.attempts.since, time.time()) if judge is not None else None, raw

    def _folded(self) -> Engine:
        """The engine as a monitor would know it now."""
        engine = Engine(self._run, self._settings, rule_classes())
        records: Iterator[Record]
        with suppress(OSError, ReplayError):  # then the snapshot tells of no figures
            if journal_files(self._place.journal):
                saved, _ = state.load(self._place, engine)
                records = (record for _, record in read_journal(self._place.journal, self._run, saved.number))
            else:
                _, records = read(self._place.base)
            for record in records:
                engine.feed(record)
        return engine
