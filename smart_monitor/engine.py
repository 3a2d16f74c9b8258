"""The engine: journal lines in; findings, incidents and decisions out. A pure fold.

The same lines give the same outputs, live or replayed, in one go or cut anywhere: everything it
remembers is in `state()`, plain JSON, and nothing it does depends on a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.judge import Judge
from smart_monitor.model import RECORD, SCHEMA, Finding, Output, Record
from smart_monitor.rules import Rule


class StateError(ValueError):
    """A saved state that this version cannot continue from; the journal must be folded anew."""


class Engine:
    """Judges one run: a `Judge` for each rank."""

    def __init__(self, run: str, settings: Settings, rules: Mapping[str, type[Rule]]) -> None:
        self.run = run
        self.settings = settings
        self._rules = rules
        self._ranks: dict[int, Judge] = {}

    def feed(self, record: Record) -> list[Output]:
        """Fold one journal line; what is to be done about it, in order."""
        judge = self._ranks.get(record.rank)
        if judge is None:
            judge = self._ranks[record.rank] = self._judge(record.rank)
        if record.kind == RECORD:
            return judge.feed(record)
        outputs = judge.feed(record)
        for rank in sorted(self._ranks):
            if rank != record.rank:
                outputs += self._ranks[rank].overhear(record)
        return outputs

    def _judge(self, rank: int) -> Judge:
        return Judge(
            self.run, rank, self.settings, {k: c for k, c in self._rules.items() if k not in self.settings.disabled_rules}
        )

    def replay(self, records: Iterable[Record]) -> Iterable[Finding]:
        """Fold many lines, findings only."""
        for record in records:
            for output in self.feed(record):
                if isinstance(output, Finding):
                    yield output

    def judge(self, rank: int = 0) -> Judge | None:
        """The judge of a rank, for status and doctor; None if nothing was seen of it."""
        return self._ranks.get(rank)

    @property
    def ranks(self) -> dict[int, Judge]:
        return self._ranks

    def configure(self, settings: Settings) -> None:
        """Go on with other settings (SIGHUP), exactly as after a restart with them: what was learned stays."""
        self.settings = settings
        for rank, judge in list(self._ranks.items()):
            heir = self._judge(rank)
            heir.restore(judge.state())
            self._ranks[rank] = heir

    def state(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "run": self.run, "ranks": {str(rank): judge.state() for rank, judge in self._ranks.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; StateError if it is of another schema or damaged."""
        if state.get("schema") != SCHEMA:
            raise StateError(f"state has schema {state.get('schema')!r}, this version reads {SCHEMA}")
        try:
            for rank, saved in state["ranks"].items():
                judge = self._judge(int(rank))
                judge.restore(saved)
                self._ranks[int(rank)] = judge
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            self._ranks.clear()
            raise StateError(f"state is damaged: {type(error).__name__}: {error}") from error
