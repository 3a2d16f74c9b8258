"""The store: promises snapshots durably, has one worker at a time keep them, and tells how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from smart_monitor.config import Settings
from smart_monitor.model import Decision
from smart_monitor.snapshots import partials
from smart_monitor.snapshots.intents import NOTHING, Intent, IntentBox, Needs
from smart_monitor.snapshots.job import Choice, job_of
from smart_monitor.snapshots.listing import published_as, published_ids
from smart_monitor.snapshots.names import directory_name, stamp
from smart_monitor.snapshots.process import AT_ONCE, Places, Worker

RETRIES = (2.0, 10.0, 60.0, 60.0)
"""Seconds to wait after the first, second and each further failure for want of space or by the worker's death. After the fifth
in a row all but the checkpoint is kept, at once: if not even that can be, it is the place that is bad and not the checkpoint."""
MAX_CHANGED = 5
"""Times that a source may fail to stand still before the snapshot is published without it."""
ASK_AGAIN = 0.5

__all__ = ["Choice", "Intent", "Needs", "Store", "StoreEvent"]


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """How a promise went. `lost`: the checkpoint is gone; `failed`: it could not be kept (yet); both say why."""

    state: Literal["published", "failed", "lost"]
    id: str
    name: str
    reason: str
    step: int | None
    bytes: int = 0
    seconds: float = 0.0
    """What the copying process took, from its start to the published name."""
    why: str = ""
    missing: tuple[Mapping[str, Any], ...] = ()
    damaged: tuple[str, ...] = ()
    """Files of other snapshots, below snapshots/, that were to be shared and no longer hold what was published."""


class Store:
    """Snapshots of one run. Not for use by several threads at once; times are unix seconds."""

    _places = Places(AT_ONCE)
    """Of all runs of this daemon."""

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self.snapshots = out / "snapshots"
        self._box = IntentBox(out / ".smart_monitor" / "intents")
        intents, self._complaints = self._box.load()
        self._open: dict[str, Intent] = {i.id: i for i in intents}
        self._unsaved: set[str] = set()
        self._reported: dict[str, Intent] = {}
        self._queue: list[StoreEvent] = []
        self._told: set[tuple[str, str]] = set()
        self._asked: dict[str, float] = {}
        self._published: dict[str, str] | None = None
        self._worker: Worker | None = None
        self._placed = False
        self._current: Intent | None = None
        self._largest = 0
        self._theirs: set[str] = set()
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Is there anything to do that is not merely waiting for a disk to have room again?"""
        return self._worker is not None or bool(self._queue) or any(not i.held_back for i in self._open.values())

    @property
    def open(self) -> tuple[Intent, ...]:
        """The promises not yet kept, the oldest first."""
        return tuple(self._open.values())

    @property
    def progress(self) -> dict[str, Any] | None:
        """The copy under way, as plain JSON: name, phase, bytes of total in that phase, bytes a second, since (unix seconds)."""
        worker, intent = self._worker, self._current
        if worker is None or intent is None:
            return None
        return {
            "name": intent.name, "phase": worker.phase or "starting", "bytes": worker.bytes, "total": worker.total,
            "rate": worker.rate, "since": worker.began, "hung": worker.hung, "pid": worker.pid,
        }  # fmt: skip

    def begin(
        self, decision: Decision, metadata: Mapping[str, Any], status: bytes | None, now: float, needs: Needs = NOTHING
    ) -> Intent:
        """Promise a snapshot; on the disk when this returns. The same decision again gives the same intent.

        A decision whose snapshot stands already is told as `published` by the next pump. If the promise
        can't be written (a full disk), it is held in memory, `failed` is told, and pump tries on.
        """
        known = self._open.get(decision.id) or self._reported.get(decision.id)
        if known is not None:
            return known
        facts = {"step": decision.step, "onset_step": decision.onset_step, "triggers": list(decision.triggers), **metadata}
        intent = Intent(
            id=decision.id,
            name=directory_name(now, decision.reason),
            reason=decision.reason,
            created=now,
            timestamp=stamp(now),
            metadata={**facts, "reason": decision.reason},
            status=status,
            needs=needs,
        )
        if self._published is None:
            self._published = published_ids(self.snapshots)
        if (name := self._published.get(decision.id)) is not None:
            intent = replace(intent, name=name)
            if ("published", intent.id) not in self._told:
                self._tell("published", intent, name=name)
            return intent
        self._open[intent.id] = intent
        self._save(intent)
        return intent

    def pump(self, now: float, choose: Callable[[Intent], Choice]) -> list[StoreEvent]:
        """Drive the store on: read the worker, start the next. Returns within milliseconds; never raises OSError.

        What the last pump told is taken as heard, and its intent is forgotten now and not before, so that
        a daemon killed in between tells it again (`recover`).
        """
        self._forget_reported()
        for intent in [self._open[i] for i in self._unsaved if i in self._open]:
            self._save(intent)
        if self._worker is not None:
            if (result := self._worker.poll()) is not None:
                self._settle(result, now)
            elif self._current is not None and self._worker.give_up(self.settings.copy_hang):
                why = (
                    f"the copying process has not moved for {self.settings.copy_hang:.0f} s; it is ended and the copy tried again"
                )
                self._leave()  # it may never end, and others wait
                self._tell("failed", self._current, why=why, once="hung")
        if self._worker is None and not self._stopped:
            due = [intent for intent in self._open.values() if self._is_due(intent, now)]
            if due and self._places.take():
                self._placed = True
                if not any(self._start(intent, now, choose) for intent in due):
                    self._leave()
        told, self._queue = self._queue, []
        return told

    def recover(self) -> list[StoreEvent]:
        """After a start: report intents whose snapshot stands already, and files of ours that can't be read."""
        for complaint in self._complaints:
            self._queue.append(StoreEvent("failed", "", "", "", None, why=complaint))
        self._complaints = []
        for intent in list(self._open.values()):
            if (found := self._already(intent)) is not None:
                self._close(intent, found)
        told, self._queue = self._queue, []
        return told

    def sweep(self) -> list[str]:
        """Remove what dead workers left; one sentence each for the log."""
        return partials.sweep(str(self.snapshots))

    def stop(self, grace: float) -> None:
        """Start nothing more; let a copy under way end within `grace` seconds, else abandon it.

        What was abandoned stays promised and is copied anew after the next start. A pump after this still
        tells what ended meanwhile.
        """
        self._stopped = True
        self._forget_reported()
        if self._worker is None:
            return
        result = self._worker.wait(grace) or self._worker.abandon()
        if result is not None and result["result"] == "published":
            self._settle(result, time.time())
        self._worker = self._current = None
        self._leave()
        self.sweep()

    def _leave(self) -> None:
        """Another run may copy."""
        if self._placed:
            self._placed = False
            self._places.give_back()

    def _is_due(self, intent: Intent, now: float) -> bool:
        # A clock set back must not put an intent off by more than the longest retry.
        return intent.not_before <= now or intent.not_before - now > RETRIES[-1]

    @staticmethod
    def _is_last_resort(intent: Intent) -> bool:
        """Has enough been tried, so that what remains is to be published without the checkpoint?"""
        return intent.changed >= MAX_CHANGED or intent.tries > len(RETRIES)

    def _start(self, intent: Intent, now: float, choose: Callable[[Intent], Choice]) -> bool:
        choice, last_resort = choose(intent), self._is_last_resort(intent)
        self._note(choice)
        if choice.wait and not last_resort and self._waited(intent, now) < self.settings.checkpoint_wait:
            self._open[intent.id] = replace(intent, not_before=now + ASK_AGAIN)
            return False
        if last_resort:
            others = (m for m in choice.missing if m.get("what") != "checkpoint")
            model = choice.model if intent.tries == 0 else None
            choice = Choice(model=model, missing=(*others, {"what": "checkpoint", "why": intent.why}))
        elif choice.wait and choice.checkpoint is None:
            choice = replace(choice, missing=(*choice.missing, {"what": "checkpoint", "why": choice.wait}))
        if choice.checkpoint is None and (why := intent.why or choice.lost):
            lost = (intent.changed > 0 or not intent.why) and intent.tries <= len(RETRIES)
            self._tell("lost" if lost else "failed", intent, why=why)
        try:
            job = job_of(
                intent, choice, self.settings, self.out, last_resort=last_resort, largest=self._largest, theirs=self._theirs
            )
            self._worker, self._current = Worker(job), intent
        except (OSError, ValueError) as error:
            self._failed(intent, {"result": "failed", "why": str(error)}, now)
            return False
        return True

    def _note(self, choice: Choice) -> None:
        """Remember what the trainer's checkpoints weigh and where they lie."""
        self._largest = max(self._largest, choice.largest)
        for found in filter(None, (choice.checkpoint, choice.model, choice.last_good)):
            self._largest = max(self._largest, found.bytes)
            self._theirs.add(found.origin)
        if choice.checkpoint:
            self._theirs.add(str(Path(choice.checkpoint.origin).parent))

    def _waited(self, intent: Intent, now: float) -> float:
        first = self._asked.setdefault(intent.id, time.monotonic())
        return max(now - intent.created, time.monotonic() - first)

    def _settle(self, result: dict[str, Any], now: float) -> None:
        intent, self._worker, self._current = self._current, None, None
        self._leave()
        assert intent is not None
        if result["result"] != "published" and (found := self._already(intent)) is not None:
            result = found
        if result["result"] == "published":
            self._close(intent, result)
        elif result["result"] == "changed":
            # At once the first time; a source that keeps changing is given a little time to come to rest.
            pause = ASK_AGAIN * intent.changed
            self._again(replace(intent, changed=intent.changed + 1, why=result["why"], not_before=now + pause))
        else:
            if result["result"] == "died":
                self._tell("failed", intent, why=f"{result['why']}; the copy is tried again", once="died")
            self._failed(intent, result, now)

    def _failed(self, intent: Intent, result: dict[str, Any], now: float) -> None:
        waits = result["result"] == "space" and bool(intent.needs.hold)
        if waits and intent.tries:  # by then other holds were given back, and that was not room enough
            self._tell(
                "failed", intent, why=f"{result['why']}; the checkpoint is held, and copied once there is room", once="room"
            )
        if waits and intent.tries >= len(RETRIES) - 1:
            # A hold takes no room that is not taken already: better a whole snapshot late than half of one now.
            tries = min(intent.tries, len(RETRIES))
            intent = replace(intent, tries=tries, held_back=True, why=result["why"], not_before=now + RETRIES[-1])
        elif self._is_last_resort(intent):
            # Nothing can be kept here now. Once something can, the checkpoint is to be in it.
            intent = replace(intent, tries=len(RETRIES), held_back=True, not_before=now + RETRIES[-1])
            self._tell("failed", intent, why=f"not even its metadata could be kept: {result['why']}", once="metadata")
        else:
            wait = (*RETRIES, 0.0)[min(intent.tries, len(RETRIES))]
            intent = replace(intent, tries=intent.tries + 1, why=result["why"], not_before=now + wait, held_back=False)
        self._again(intent)

    def _again(self, intent: Intent) -> None:
        self._open[intent.id] = intent
        self._save(intent)

    def _already(self, intent: Intent) -> dict[str, Any] | None:
        """The result of an earlier worker whose word never arrived, read from what it published."""
        name = published_as(self.snapshots, intent.name, intent.id)
        if name is None:
            return None
        try:
            document = json.loads((self.snapshots / name / "metadata.json").read_bytes())
            size = sum(int(f["bytes"]) for f in document["files"])
            return {"result": "published", "name": name, "bytes": size, "seconds": 0.0, "missing": document["missing"][:20]}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _close(self, intent: Intent, result: dict[str, Any]) -> None:
        self._open.pop(intent.id, None)
        self._unsaved.discard(intent.id)
        self._reported[intent.id] = intent
        if self._published is not None:
            self._published[intent.id] = result["name"]
        self._tell("published", intent, name=result["name"], result=result)

    def _tell(
        self,
        state: Literal["published", "failed", "lost"],
        intent: Intent,
        *,
        name: str = "",
        result: Mapping[str, Any] | None = None,
        why: str = "",
        once: str = "",
    ) -> None:
        if (once or state, intent.id) in self._told:
            return
        self._told.add((once or state, intent.id))
        told = result or {}
        self._queue.append(
            StoreEvent(
                state=state,
                id=intent.id,
                name=name or intent.name,
                reason=intent.reason,
                step=intent.metadata.get("step"),
                bytes=told.get("bytes", 0),
                seconds=told.get("seconds", 0.0),
                why=why,
                missing=tuple(told.get("missing", ())),
                damaged=tuple(told.get("damaged", ())),
            )
        )

    def _save(self, intent: Intent) -> None:
        try:
            self._box.save(intent)
            self._unsaved.discard(intent.id)
        except OSError as error:
            self._unsaved.add(intent.id)
            self._tell("failed", intent, why=f"the promise can't be written: {error.strerror}", once="unsaved")

    def _forget_reported(self) -> None:
        for intent in list(self._reported.values()):
            try:
                self._box.remove(intent)
            except OSError:
                continue  # tried again at the next pump; after a restart it would be told once more
            del self._reported[intent.id]
