"""What findings come to: incidents with a life, and gates that hold back snapshots (never findings).

Both are folds over the records, with plain JSON state, so that a restarted monitor goes on with the
incident it had open and never opens it twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from smart_monitor.config import Settings
from smart_monitor.model import RECORD, Decision, Finding, IncidentEvent, Record, Severity, event_id
from smart_monitor.rules._telling import WITNESSES

LASTING = 15
"""Records after which what began as a spike is no longer one: the level did not come back."""
TRANSIENT = 3
QUIET = {"loss": 5, "accuracy": 5}
"""Records without its condition after which an incident of that family is over; others at once."""
KEPT = 24
"""Findings an incident names at most, the newest."""
RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}

DEFAULT_STEPS = 500.0
SHARE_OF_TOTAL = 0.05
COARSE_RECORDS = 20.0


class Conditions(NamedTuple):
    """The kinds of rules, by how they stand at one journal line."""

    holding: set[str]
    """In an episode: true, or not yet false for long enough, or not asked since."""
    now: set[str]
    """True of this very line."""
    asked: set[str]
    """Asked on this line, or ended by it."""
    worse: Mapping[str, str] = {}
    """Told before as a warning and critical now -> why."""


class Incidents:
    """The open incidents of one rank: at most one for each family of rules."""

    def __init__(self) -> None:
        self.open: dict[str, dict[str, Any]] = {}

    def fold(
        self, record: Record, findings: Iterable[tuple[str, Finding]], conditions: Conditions, step: int | None
    ) -> list[tuple[IncidentEvent, str]]:
        """One journal line: (event, the family if it escalates because it lasts) in order.

        `findings` come with their family.
        """
        events: list[tuple[IncidentEvent, str]] = []
        if not record.historical:
            events += [(self._announce(i, record), "") for i in self.open.values() if not i["announced"]]
        for family, finding in findings:
            events.append((self._join(family, finding, record), ""))
        for family, incident in list(self.open.items()):
            event = self._live(family, incident, conditions, record, step)
            if event is not None:
                events.append((event, family if event.state == "escalated" else ""))
        return events

    def close(self, why: str, record: Record, but: Collection[str] = ()) -> list[IncidentEvent]:
        """Resolve what is open from outside: a new attempt began, the run ended. What the kinds `but` hold open stays."""
        closing = [i for i in self.open.values() if not any(kind in but for kind in i["kinds"])]
        self.open = {family: i for family, i in self.open.items() if i not in closing}
        return [self._turn(incident, "resolved", why, record) for incident in closing]

    def _join(self, family: str, finding: Finding, record: Record) -> IncidentEvent:
        incident = self.open.get(family)
        if incident is None:
            incident = self.open[family] = {
                "id": event_id(finding.run, finding.source, finding.rank, finding.attempt, finding.record, f"incident_{family}"),
                "run": finding.run, "seq": 0, "severity": finding.severity, "kinds": [finding.kind], "findings": [finding.id],
                "first_step": finding.onset_step, "last_step": finding.step, "held": 0, "quiet": 0,
                "announced": not record.historical, "lasting": False,
            }  # fmt: skip
            return self._turn(incident, "opened", told(finding), record)
        worse = RANK[finding.severity] > RANK[incident["severity"]]
        if worse:
            incident["severity"] = finding.severity
        if finding.kind not in incident["kinds"]:
            incident["kinds"].append(finding.kind)
        incident["findings"] = [*incident["findings"], finding.id][-KEPT:]
        incident["last_step"], incident["quiet"] = finding.step, 0
        return self._turn(incident, "escalated" if worse else "updated", told(finding), record)

    def _live(
        self, family: str, incident: dict[str, Any], conditions: Conditions, record: Record, step: int | None
    ) -> IncidentEvent | None:
        if not conditions.holding.isdisjoint(incident["kinds"]):
            incident["quiet"] = 0
            if record.kind == RECORD and not conditions.now.isdisjoint(incident["kinds"]):
                incident["held"] += 1
                incident["last_step"] = step
            why = next((conditions.worse[kind] for kind in incident["kinds"] if kind in conditions.worse), "")
            if why and incident["severity"] == "warning":
                incident["severity"] = "critical"
                return self._turn(incident, "escalated", why, record)
            if family in QUIET and incident["held"] >= LASTING and not incident["lasting"]:
                incident["lasting"] = True
                if incident["severity"] == "warning":
                    incident["severity"] = "critical"
                    return self._turn(incident, "escalated", f"not recovered after {incident['held']} records", record)
            return None
        if conditions.asked.isdisjoint(incident["kinds"]):
            return None  # a record without the metric says nothing about it
        incident["quiet"] += 1
        if incident["quiet"] < QUIET.get(family, 1):
            return None
        del self.open[family]
        held = incident["held"]
        how = (
            "transient: it" if held <= TRANSIENT else ("a new level was accepted: it" if incident["lasting"] else "recovered: it")
        )
        lasted = f" lasted {held} record{'s' * (held != 1)}" if family in QUIET else " is over"
        return self._turn(incident, "resolved", how + lasted, record)

    def _announce(self, incident: dict[str, Any], record: Record) -> IncidentEvent:
        incident["announced"] = True
        return self._turn(incident, "opened", "was open when the monitor first met the run", record, historical=True)

    @staticmethod
    def _turn(incident: dict[str, Any], state: Any, message: str, record: Record, *, historical: bool = False) -> IncidentEvent:
        seq = incident["seq"]
        incident["seq"] = seq + 1
        return IncidentEvent(
            id=incident["id"], seq=seq, run=incident["run"], state=state, severity=incident["severity"],
            kinds=tuple(incident["kinds"]), findings=tuple(incident["findings"]), first_step=incident["first_step"],
            last_step=incident["last_step"], time=record.time if record.time is not None else record.seen,
            message=f"{' + '.join(incident['kinds'])}: {message}", historical=historical or record.historical,
        )  # fmt: skip


class Gates:
    """When each rule last had a snapshot in this attempt, and whether it may have another."""

    def __init__(self) -> None:
        self.last: dict[str, dict[str, Any]] = {}

    def closed(self, kind: str, step: int | None, records: int, need: float, unit: str) -> str:
        """Why `kind` may not be snapshotted now; empty if it may.

        `records` counts the records of the attempt; `need` and `unit` come from `gate_width`.
        """
        last = self.last.get(kind)
        if last is None:
            return ""
        by_records = unit == "records" or step is None or last["step"] is None
        since = records - last["records"] if by_records else step - last["step"]
        return "" if since >= need else f"{since} of {need:g} {unit} since the last {kind} snapshot"

    def taken(self, decision: Decision, step: int | None, records: int) -> None:
        """A snapshot of these kinds was decided now; the gates count from it unless it fails."""
        for kind in decision.kinds:
            before = self.last.get(kind)
            if before is not None:
                before = {k: v for k, v in before.items() if k != "before"}
            self.last[kind] = {"id": decision.id, "step": step, "records": records, "before": before}

    def failed(self, decision_id: str) -> None:
        """The snapshot was not published: its gates count from the one before again."""
        for kind, last in list(self.last.items()):
            if last["id"] == decision_id:
                if last["before"] is None:
                    del self.last[kind]
                else:
                    self.last[kind] = last["before"] | {"before": None}


def told(finding: Finding) -> str:
    """What was seen and how sure that is, what else stood there, what to do: one message."""
    beside = [f"{m} {v:.4g}" for m in WITNESSES if isinstance(v := finding.evidence.get(m), (int, float))]
    joined = f"; beside it {', '.join(beside)}" if beside else ""
    return f"{finding.message}{joined}. {finding.advice}".rstrip()


def decision_of(found: Sequence[Finding], what: str, severity: Severity, facts: Mapping[str, Any], gated: str) -> Decision:
    """The snapshot that findings of one record ask for; `what` tells it from others of that record."""
    first = found[0]
    onsets = [f.onset_step for f in found if f.onset_step is not None]
    reasons = tuple(f.reason for f in found)
    return Decision(
        id=event_id(first.run, first.source, first.rank, first.attempt, first.record, what), run=first.run, rank=first.rank,
        attempt=first.attempt, record=first.record, step=first.step, onset_step=min(onsets) if onsets else first.step,
        reason="_".join(reasons), kinds=tuple(f.kind for f in found), triggers=reasons, severity=severity,
        findings=tuple(found), facts=facts, gated=gated,
    )  # fmt: skip


def escalation_of(
    event: IncidentEvent, family: str, where: tuple[str, int, int, int], step: int | None, facts: Mapping[str, Any]
) -> Decision:
    """Another snapshot because an incident lasts; `where` is (source, rank, attempt, record)."""
    source, rank, attempt, record = where
    reason = f"{event.kinds[0]}_not_recovered"
    return Decision(
        id=event_id(event.run, source, rank, attempt, record, f"escalation_{family}"), run=event.run, rank=rank, attempt=attempt,
        record=record, step=step, onset_step=event.first_step, reason=reason, kinds=event.kinds, triggers=(reason,),
        severity="critical", findings=(), facts=facts, only_if_newer=True,
    )  # fmt: skip


def gate_width(by: str, total: int | None, settings: Settings) -> tuple[float, str]:
    """How far apart two snapshots of one rule must be: (number, "steps" or "records").

    A value that the user set is literal. Else 500 steps, or 5 % of the total if that is smaller, or 20
    records where the run counts epochs or episodes.
    """
    if "min_steps_between_saves" in settings.given:
        return float(settings.min_steps_between_saves), "steps"
    if by in ("epoch", "episode"):
        return COARSE_RECORDS, "records"
    return max(1.0, min(DEFAULT_STEPS, SHARE_OF_TOTAL * total if total else DEFAULT_STEPS)), "steps"
