"""Recovery: after a crash, the journal's lines that the state does not hold yet are folded again.

What they once told stands in events.jsonl and is not told again; what they promised is a file of the
store, and is not promised again; what a kill cut short between the two is made good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smart_monitor.daemon.keeper import status_of
from smart_monitor.daemon.state import Saved
from smart_monitor.journal import read_journal
from smart_monitor.model import OUTCOME, RECORD, STATE, Record

if TYPE_CHECKING:
    from smart_monitor.daemon.run import Run


@dataclass(slots=True)
class Again:
    """What was folded again, where it matters to what is read next."""

    outcomes: set[tuple[str, str]] = field(default_factory=set)
    """(decision, state) of the store's outcomes."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Lines of each source, by the file they say they are from."""
    last: dict[str, dict[str, Record]] = field(default_factory=dict)
    """The last line of each source and kind, the later one behind."""
    lived: bool = False
    """Was any record among them that did not stand there at first contact?"""


@dataclass(slots=True)
class Untold:
    """The steps judged after the last one that the log tells of: the kill came between the journal and the log."""

    first: int = 0
    last: int = 0
    count: int = 0

    def heed(self, step: int, told: int | None) -> None:
        """One more, the last that was told being `told`."""
        self.first, self.last = step if self.count == 0 else self.first, step
        self.count = 0 if step == told else self.count + 1


def recover(run: Run, saved: Saved) -> Again:
    """Bring engine, events and store of `run` to where the journal ends."""
    keeper = run.keeper
    behind = run.journal.number > saved.number
    stood = run.events.open()
    anew = behind and not saved.number
    if behind or keeper.store.open:
        # A promise may have been made long before the state was saved.
        run.events.remember(0 if anew or keeper.store.open else saved.events)
    silent = anew and not stood
    if silent:
        run.log.warning("events.jsonl is gone, so nobody knows what was told: the journal is folded without telling anything")
    again = _refold(run, saved.number, silent=silent) if behind else Again()
    run.told(keeper.store.recover(), again.outcomes)
    run.events.forget(keeper.promised)
    return again


def _refold(run: Run, number: int, *, silent: bool) -> Again:
    again, told, untold = Again(), run.log.last_step(), Untold()
    for _, record in read_journal(run.place.journal, run.name, number):
        outputs = run.judge(record)
        run.heed(record, again=True)
        if record.kind == RECORD and not record.historical and (judge := run.engine.judge(record.rank)) is not None:
            untold.heed(record.index if judge.step is None else judge.step, told)
        if not silent:
            run.perform(outputs, status_of(record) if outputs else None)
        if record.kind == OUTCOME:
            again.outcomes.add((record.ids.get("decision", ""), record.state))
        elif record.kind in (RECORD, STATE):
            counts, file = again.counts.setdefault(record.source, {}), record.ids.get("file", "")
            counts[file] = counts.get(file, 0) + 1
            kinds = again.last.setdefault(record.source, {})
            kinds.pop(record.kind, None)  # so that the later of the two stands behind
            kinds[record.kind] = record
            again.lived |= record.kind == RECORD and not record.historical
    if untold.count:
        run.log.range(untold.first, untold.last, untold.count)
    return again
