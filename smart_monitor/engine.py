"""The engine: journal lines in; findings, incidents and decisions out. A pure fold.

The same lines give the same outputs, live or replayed, in one go or cut anywhere: everything it
remembers is in `state()`, plain JSON, and nothing it does depends on a clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from smart_monitor.accord import Accord
from smart_monitor.config import Settings
from smart_monitor.judge import Judge
from smart_monitor.model import RECORD, SCHEMA, Finding, Output, Record
from smart_monitor.rules import PEER, Rule
from smart_monitor.stats.crew import Crew

MAX_RANKS = 1024
"""Ranks that are judged; more are journaled and no more."""


class StateError(ValueError):
    """A saved state that this version cannot continue from; the journal must be folded anew."""


class Engine:
    """Judges one run: a `Judge` for each rank, and the ranks beside one another."""

    def __init__(self, run: str, settings: Settings, rules: Mapping[str, type[Rule]]) -> None:
        self.run = run
        self.settings = settings
        self._rules = rules
        self.ranks: dict[int, Judge] = {}
        """The judge of each rank; for others only to be read."""
        self._crew = Crew()
        self._accord = Accord()

    def feed(self, record: Record) -> list[Output]:
        """Fold one journal line; what is to be done about it, in order."""
        judge = self.ranks.get(record.rank)
        if judge is None:
            if len(self.ranks) >= MAX_RANKS and record.rank:
                return []
            judge = self.ranks[record.rank] = self._judge(record.rank)
        if record.kind == RECORD:
            if len(self.ranks) == 1:
                outputs = judge.feed(record)
                return self._accord.fold(outputs, judge, 1) if outputs else outputs
            return self._beside(record, judge)
        outputs = self._accord.fold(judge.feed(record), judge, len(self.ranks))
        for rank in sorted(self.ranks):
            if rank != record.rank:
                heard = self.ranks[rank].overhear(record)
                outputs += self._accord.fold(heard, self.ranks[rank], len(self.ranks)) if heard else heard
        return outputs

    def _beside(self, record: Record, judge: Judge) -> list[Output]:
        """A record of one of several ranks: judged for itself, then together with what the others have said."""
        attempt = judge.attempts.number
        outputs = judge.feed(record)
        outputs = self._accord.fold(outputs, judge, len(self.ranks)) if outputs else outputs
        if self._crew.observe(record, judge.step, restarted=judge.attempts.number != attempt):
            host = self.ranks.get(0)
            if host is None:
                host = self.ranks[0] = self._judge(0)
            outputs += self._accord.fold(host.feed(record._replace(kind=PEER)), host, len(self.ranks))
            for rank in self._crew.departed():
                gone = self.ranks.get(rank)
                if gone is not None and gone.incidents.open:
                    closed: list[Output] = list(gone.incidents.close("the run goes on without this rank", record))
                    outputs += self._accord.fold(closed, gone, len(self.ranks))
        return outputs

    def _judge(self, rank: int) -> Judge:
        classes = {k: c for k, c in self._rules.items() if k not in self.settings.disabled_rules}
        return Judge(self.run, rank, self.settings, classes, self._crew)

    def replay(self, records: Iterable[Record]) -> Iterable[Finding]:
        """Fold many lines, findings only."""
        for record in records:
            for output in self.feed(record):
                if isinstance(output, Finding):
                    yield output

    def judge(self, rank: int | None = None) -> Judge | None:
        """The judge of a rank, for status and doctor (by default of the first that gave a record); None if there is none."""
        if rank is not None:
            return self.ranks.get(rank)
        return next((self.ranks[r] for r in sorted(self.ranks) if self.ranks[r].records), self.ranks.get(0))

    @property
    def incidents(self) -> list[dict[str, Any]]:
        """The incidents open now, across ranks: severity, kinds, first_step, ranks and more."""
        return self._accord.open()

    def configure(self, settings: Settings) -> None:
        """Go on with other settings (SIGHUP), exactly as after a restart with them: what was learned stays."""
        self.settings = settings
        for rank, judge in list(self.ranks.items()):
            heir = self._judge(rank)
            heir.restore(judge.memory())
            self.ranks[rank] = heir

    def state(self) -> dict[str, Any]:
        """Everything remembered, as plain JSON that shares nothing with the engine."""
        return dict(json.loads(json.dumps(self.memory())))

    def memory(self) -> dict[str, Any]:
        """The same for who writes it down at once: what is in it goes on changing."""
        return {
            "schema": SCHEMA, "run": self.run, "ranks": {str(rank): judge.memory() for rank, judge in self.ranks.items()},
            "crew": self._crew.state(), "accord": self._accord.state(),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; StateError if it is of another schema or damaged."""
        if state.get("schema") != SCHEMA:
            raise StateError(f"state has schema {state.get('schema')!r}, this version reads {SCHEMA}")
        try:
            self._crew.restore(state["crew"])
            self._accord.restore(state["accord"])
            for rank, saved in state["ranks"].items():
                judge = self._judge(int(rank))
                judge.restore(saved)
                self.ranks[int(rank)] = judge
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            self.ranks.clear()
            raise StateError(f"state is damaged: {type(error).__name__}: {error}") from error
