"""What several ranks say alike is one incident, and one snapshot.

Each rank is judged for itself; here the same trouble of another rank joins the incident that the first opened. Findings
pass unchanged but for the rank in their words; those that join carry `joins_rank`. The snapshot is that of the first.
A pure fold over what the judges say.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from smart_monitor.incidents import KEPT, RANK, gate_width
from smart_monitor.judge import BEST, Judge
from smart_monitor.model import Decision, Finding, IncidentEvent, Output
from smart_monitor.stats.attempts import TOLERANCE
from smart_monitor.stats.crew import words

JOINS = "joins_rank"
"""In a finding's evidence: the rank that opened the incident it joins."""
PAST = 8
"""Incidents of one family that are remembered after they are over: another rank's lines may come late."""
_INCIDENT, _ESCALATION = ":incident_", ":escalation_"


class Accord:
    """Incidents across ranks. State is bounded by the families of rules and the number of ranks."""

    def __init__(self) -> None:
        self._known: dict[str, list[dict[str, Any]]] = {}
        """Family -> its incidents, the newest last."""
        self._best: dict[str, Any] | None = None
        """The last best model that was decided on."""

    def fold(self, outputs: list[Output], judge: Judge, ranks: int) -> list[Output]:
        """What one judge says, as it is to be performed; `ranks` judges there are."""
        found: dict[str, int | None] = {}
        turns: dict[int, IncidentEvent | None] = {}
        for at, output in enumerate(outputs):
            if isinstance(output, IncidentEvent):
                turns[at] = self._turn(output, judge, ranks, found)
        said: dict[str, Finding] = {}
        result: list[Output] = []
        for at, output in enumerate(outputs):
            if isinstance(output, Finding):
                said[output.id] = (
                    output if ranks < 2 or _of_the_run(judge, [output.kind]) else _named(output, found.get(output.id))
                )
                result.append(said[output.id])
            elif isinstance(output, Decision):
                decided = self._decide(output, judge, found)
                if decided is not None:
                    result.append(
                        dataclasses.replace(decided, findings=tuple(said.get(f.id, f) for f in decided.findings))
                        if decided.findings
                        else decided
                    )
            elif (turn := turns[at]) is not None:
                result.append(turn)
        return result

    def open(self) -> list[dict[str, Any]]:
        """The incidents open now: severity, kinds, first_step, ranks."""
        return [i for family in self._known.values() for i in family if i["open"]]

    # -- incidents --------------------------------------------------------------------------------

    def _turn(self, event: IncidentEvent, judge: Judge, ranks: int, found: dict[str, int | None]) -> IncidentEvent | None:
        """The turn of a rank's own incident as one of the incident it is part of; None where that takes none."""
        family, rank = event.id.rpartition(_INCIDENT)[2], judge.rank
        past = self._known.setdefault(family, [])
        incident = next((i for i in past if rank in i["open"]), None)
        state = event.state
        if incident is None:
            if state == "resolved":
                return event  # of a state from before there was anything to join
            incident = self._joined(event, judge, past)
            if incident is None:
                return self._opened(event, judge, past, ranks)
            state = "updated"
        incident["open"] = sorted({*incident["open"], rank})
        if rank not in incident["ranks"]:
            incident["ranks"] = sorted([*incident["ranks"], rank])
        return self._lived(incident, event, state, rank, found)

    def _lived(
        self, incident: dict[str, Any], event: IncidentEvent, state: Any, rank: int, found: dict[str, int | None]
    ) -> IncidentEvent | None:
        if state == "resolved":
            incident["open"] = [r for r in incident["open"] if r != rank]
            if incident["open"]:
                return None
        if RANK[event.severity] > RANK[incident["severity"]]:
            incident["severity"] = event.severity
            state = "escalated" if state != "resolved" else state
        elif state == "escalated":
            state = "updated"
        for finding in event.findings:
            if finding not in incident["findings"]:
                found[finding] = incident["first"] if rank != incident["first"] else None
                incident["findings"] = [*incident["findings"], finding][-KEPT:]
        incident["kinds"] += [kind for kind in event.kinds if kind not in incident["kinds"]]
        steps = [s for s in (incident["last_step"], event.last_step) if s is not None]
        incident["last_step"] = max(steps, default=None)
        seq = incident["seq"]
        incident["seq"] = seq + 1
        return dataclasses.replace(
            event, id=incident["id"], seq=seq, state=state, severity=incident["severity"], kinds=tuple(incident["kinds"]),
            findings=tuple(incident["findings"]), first_step=incident["first_step"], last_step=incident["last_step"],
            message=_told(event.message, incident["ranks"]) if incident["several"] else event.message,
        )  # fmt: skip

    def _opened(self, event: IncidentEvent, judge: Judge, past: list[dict[str, Any]], ranks: int) -> IncidentEvent:
        rank = judge.rank
        several = ranks > 1 and not _of_the_run(judge, event.kinds)
        past.append({
            "id": event.id, "first": rank, "ranks": [rank], "open": [rank], "severity": event.severity,
            "kinds": list(event.kinds), "findings": list(event.findings),
            "first_step": event.first_step, "last_step": event.last_step, "seq": event.seq + 1,
            "attempt": judge.attempts.number, "decision": "", "escalated": False, "several": several,
        })  # fmt: skip
        over = [i for i in past if not i["open"]]
        for old in over[:-PAST]:
            past.remove(old)
        return dataclasses.replace(event, message=_told(event.message, [rank])) if several else event

    @staticmethod
    def _joined(event: IncidentEvent, judge: Judge, past: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The incident of other ranks that this one is part of."""
        slack = max(1.0, TOLERANCE * judge.attempts.pace)
        for incident in past[::-1]:
            if judge.rank in incident["ranks"] or not set(incident["kinds"]) & set(event.kinds):
                continue
            if incident["open"]:
                incident["several"] = True
                return incident
            first, last, step = incident["first_step"], incident["last_step"], event.first_step
            if first is None or last is None or step is None or incident["attempt"] != judge.attempts.number:
                continue
            if first - slack <= step <= last + slack:
                incident["several"] = True
                return incident
        return None

    # -- snapshots --------------------------------------------------------------------------------

    def _decide(self, decision: Decision, judge: Judge, found: Mapping[str, int | None]) -> Decision | None:
        """The decision, or None if it is that of another rank."""
        if decision.kinds == (BEST,):
            return self._decide_best(decision, judge)
        mine = [i for i in self.open() if judge.rank in i["open"]]
        if not decision.findings:
            family = decision.id.rpartition(_ESCALATION)[2]
            for incident in mine:
                if incident["id"].endswith(_INCIDENT + family):
                    told, incident["escalated"] = incident["escalated"], True
                    return None if told else decision
            return decision
        parts = [i for i in mine if any(f.id in i["findings"] for f in decision.findings)]
        joined = [i for i in parts if i["first"] != judge.rank and i["decision"]]
        if parts and len(joined) == len(parts) and all(found.get(f.id) is not None for f in decision.findings):
            _stand_in(judge, decision, joined[0]["decision"])
            return None
        for incident in parts:
            incident["decision"] = incident["decision"] or decision.id
        return decision

    def _decide_best(self, decision: Decision, judge: Judge) -> Decision | None:
        """A best model is one of the run's: the other ranks' within the same gate are no others."""
        last = self._best
        if last is not None and last["rank"] != judge.rank and last["attempt"] == decision.attempt:
            need, unit = gate_width(judge.by, judge.total, judge.settings)
            at, now = (last["step"], judge.step) if unit == "steps" else (last["records"], judge.records)
            if at is not None and now is not None and 0 <= now - at < need:
                _stand_in(judge, decision, last["id"])
                return None
        if not decision.gated:
            self._best = {
                "rank": judge.rank, "attempt": decision.attempt, "step": judge.step, "records": judge.records, "id": decision.id,
            }  # fmt: skip
        return decision

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What `restore` takes: plain JSON that shares nothing with it."""
        apart: dict[str, Any] = json.loads(json.dumps({"known": self._known, "best": self._best}))
        return apart

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        state = json.loads(json.dumps(state))
        self._known, self._best = state["known"], state["best"]


def _of_the_run(judge: Judge, kinds: Iterable[str]) -> bool:
    """Are these findings about the run as a whole?"""
    return any(judge.rules[kind].of_the_run for kind in kinds if kind in judge.rules)


def _named(finding: Finding, joins: int | None) -> Finding:
    """The finding with the rank in its words."""
    evidence = finding.evidence if joins is None else {**finding.evidence, JOINS: joins}
    return dataclasses.replace(finding, message=f"rank {finding.rank}: {finding.message}", evidence=evidence)


def _told(message: str, ranks: list[int]) -> str:
    """`kinds: rank 3: message`; kinds stand first, as in every turn of an incident."""
    kinds, _, rest = message.partition(": ")
    return f"{kinds}: {words(ranks)}: {rest}"


def _stand_in(judge: Judge, decision: Decision, other: str) -> None:
    """The gates of this rank count from the other's snapshot."""
    for kind in decision.kinds:
        last = judge.gates.last.get(kind)
        if last is not None and last["id"] == decision.id:
            last["id"] = other
