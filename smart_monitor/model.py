"""The nouns of Smart Monitor: frozen values that every layer passes on and none changes.

Nothing here reads a clock, a file or a setting. A record is what a trainer (or the host) said, a
finding what a rule makes of it, a checkpoint what lies in the trainer's directory, a decision what
the store is asked to keep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

SCHEMA = 1
"""Version of everything we write; state of another version is set aside and folded anew."""

Severity = Literal["info", "warning", "critical"]

HOST = "host"
"""The source of ticks: time passing, process and host figures."""

RECORD, TICK, STATE, OUTCOME = "record", "tick", "state", "outcome"
"""The kinds of journal line. Only records count in `Record.index`."""

_NO_VALUES: Mapping[str, float] = {}
_NO_WORDS: Mapping[str, str] = {}


class Record(NamedTuple):
    """One observation of a run, as read: nothing in it depends on what came before.

    A named tuple and not a dataclass: replay makes tens of thousands of them a second.
    """

    run: str
    source: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a record
    """0-based: the row within a replayed file; live, the record's number within the journal."""
    step: int | None = None
    by: str = "step"
    """What `step` counts: step, epoch, episode or row."""
    epoch: float | None = None
    time: float | None = None
    """Unix seconds by the trainer's own clock, where it says so."""
    seen: float | None = None
    """Unix seconds when we read it."""
    values: Mapping[str, float] = _NO_VALUES
    """Metric -> value under canonical names (`names.py`), as written: not rescaled, may be NaN."""
    rank: int = 0
    total: int | None = None
    nulls: tuple[str, ...] = ()
    """Canonical metrics that the row names with null: "not given", or a NaN some encoder ate."""
    ids: Mapping[str, str] = _NO_WORDS
    """Identity words of the writer (pid, run_id, file); a change of one opens a new attempt."""
    kind: str = RECORD
    """`record`, `tick` (source host) or `state` (the trainer says what it is doing)."""
    state: str = ""
    """The trainer's word, normalised: training, idle, completed, crashed; empty if it says none."""
    note: str = ""
    """Free text beside a state or a tick: the trainer's error message, why we are blind."""
    historical: bool = False
    """It stood there when we first met the run: folded, not announced."""


class Reading(NamedTuple):
    """One row, read. Nothing in it depends on earlier rows."""

    step: int | None
    by: str
    """What `step` counts: step, episode, epoch or row."""
    epoch: float | None
    time: float | None
    """Unix seconds, if the row gives a believable time."""
    total: int | None
    values: dict[str, float]
    """Canonical (else own, lower-cased) name -> value as written; may be NaN or infinite."""
    nulls: tuple[str, ...]
    """Canonical metrics that are named but null."""
    ids: dict[str, str]
    """pid and run_id, where given."""
    state: str
    """training, idle, completed, crashed, or empty."""
    note: str
    recognised: bool
    """It looks like training at all."""
    oddities: tuple[str, ...]
    """Sentences about what was given but can't be used."""
    rank: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says about one record. Never changes afterwards; the incident does."""

    run: str
    source: str
    rank: int
    attempt: int
    record: int
    step: int | None
    onset_record: int
    onset_step: int | None
    time: float | None
    kind: str
    severity: Severity
    metric: str
    value: float | None
    baseline: float | None
    threshold: float | None
    score: float | None
    reason: str
    strategy: str
    message: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    historical: bool = False

    @property
    def id(self) -> str:
        """The same for the same event however often the journal is folded."""
        return event_id(self.run, self.source, self.rank, self.attempt, self.record, self.kind)


@dataclass(frozen=True, slots=True)
class IncidentEvent:
    """A turn in the life of an incident: opened, updated, escalated or resolved."""

    id: str
    seq: int
    run: str
    state: Literal["opened", "updated", "escalated", "resolved"]
    severity: Severity
    kinds: tuple[str, ...]
    findings: tuple[str, ...]
    first_step: int | None
    last_step: int | None
    time: float | None
    message: str
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A snapshot that the engine wants kept, or says why it is held back (`gated`).

    `facts` are the judged figures for metadata.json: loss, accuracy, learning_rate, histories,
    best_loss and best_loss_step, as they stood at the firing record; and `by`, what its step counts
    where that is not steps.
    """

    id: str
    run: str
    rank: int
    attempt: int
    record: int
    step: int | None
    onset_step: int | None
    reason: str
    kinds: tuple[str, ...]
    triggers: tuple[str, ...]
    severity: Severity
    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    only_if_newer: bool = False
    """An incident got worse: keep another snapshot only if a newer complete checkpoint exists."""
    gated: str = ""
    """Empty: take it now. Otherwise the sentence that says which gate holds it back."""


Output = Finding | IncidentEvent | Decision
"""What the engine says, in the order in which it is to be performed."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """One file of a checkpoint and the identity under which it was seen complete."""

    path: str
    """POSIX, relative to the checkpoint (or to the model directory for top-level files)."""
    bytes: int
    dev: int
    ino: int
    mtime_ns: int

    @property
    def identity(self) -> tuple[int, int, int, int]:
        return self.dev, self.ino, self.bytes, self.mtime_ns


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete set of files in a trainer's directory."""

    name: str
    path: str
    """Absolute path of the directory (or of the single file) it was found at."""
    step: int | None
    layout: str
    complete_by: str
    """What proved it complete, in words: the marker, or the quiet period."""
    completed: float
    """Unix seconds: the newest modification among its files."""
    files: tuple[FileStamp, ...]
    external: tuple[tuple[str, str], ...] = ()
    """(relative path, why) of entries that are not ours to copy: links out, sockets, devices."""
    source: str = ""
    """Where the trainer wrote it, if `path` is our hold on it."""

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)

    @property
    def origin(self) -> str:
        """Where the trainer wrote it, whether or not `path` is a hold."""
        return self.source or self.path


def newest(found: Iterable[Checkpoint], since: float | None) -> Checkpoint | None:
    """The newest of complete checkpoints; None of none.

    The highest step among those completed at or after `since` (unix seconds); if none was completed since
    then, the last completed of all. Those that tell no step count only where no other exists.
    """
    found = list(found)
    stepped = [c for c in found if c.step is not None]
    recent = [c for c in stepped if since is None or c.completed >= since]
    if recent:
        return max(recent, key=lambda c: (c.step or 0, c.completed))
    return max(stepped or found, key=lambda c: (c.completed, c.name), default=None)


def finding_json(finding: Finding) -> dict[str, Any]:
    """The finding as an event, in the order of the contract."""
    head = {"event": "finding", "schema": SCHEMA, "id": finding.id}
    return head | finding_state(finding) | {"time": iso(finding.time)}


def finding_state(finding: Finding) -> dict[str, Any]:
    """The finding field by field, as a state keeps it: `Finding(**finding_state(f)) == f`."""
    return {name: getattr(finding, name) for name in Finding.__slots__}


def incident_json(event: IncidentEvent) -> dict[str, Any]:
    """A turn of an incident as an event, in the order of the contract."""
    head = {"event": "incident", "schema": SCHEMA, "id": event.id}
    body = {name: getattr(event, name) for name in IncidentEvent.__slots__ if name != "id"}
    return head | body | {"time": iso(event.time)}


def iso(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC; None for None and for what no calendar holds."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def event_id(run: str, source: str, rank: int, attempt: int, record: int, kind: str) -> str:
    """The identity of an event (run, source, rank, attempt, record, kind), readable."""
    return f"{run}:{source}:{rank}:{attempt}:{record}:{kind}"


def to_float(value: Any) -> float:
    """A number as a float; an integer beyond all floats is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain(value: Any) -> Any:
    """`value` with every non-finite float spelled "NaN", "Infinity" or "-Infinity", for strict JSON."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def to_json(value: Any, *, ensure_ascii: bool = True, **options: Any) -> str:
    """Strict JSON on one line, whatever floats are in it."""
    usual = _STRICT[ensure_ascii]
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, **options) if options else usual
    try:
        return encoder.encode(value)
    except ValueError:
        return encoder.encode(plain(value))


_STRICT = {escaped: json.JSONEncoder(ensure_ascii=escaped, allow_nan=False) for escaped in (True, False)}
"""By `ensure_ascii`: made once and not for every line."""
