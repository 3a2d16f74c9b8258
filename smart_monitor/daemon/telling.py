"""Telling: what happened, once in the events and, where a person should know, in the log.

An event is written before its log line. After a crash an event that stands is not told again, except
that the line of the very last one, which may have been cut off by the crash, is looked for in the log
and made good.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from smart_monitor.accord import JOINS
from smart_monitor.daemon.events import Events
from smart_monitor.daemon.log import Log
from smart_monitor.incidents import told
from smart_monitor.model import SCHEMA, Decision, Finding, IncidentEvent, finding_json, incident_json, iso
from smart_monitor.snapshots.store import StoreEvent
from smart_monitor.units import size

NOT_NEWER = "the incident goes on and no newer complete checkpoint exists"


class Teller:
    """Every method returns whether the event was new; what stands in the events already is not told again."""

    def __init__(self, log: Log, events: Events) -> None:
        self.log, self.events = log, events

    def finding(self, finding: Finding) -> bool:
        """A finding; history is written down for programs and not announced."""
        event = finding_json(finding)
        new = self.events.append(event)
        if finding.historical:
            return False
        where = "" if finding.step is None else f"Step {finding.step}: "
        if JOINS in finding.evidence:
            # What another rank has said already is one alarm and not sixty-four.
            self._say(event, new, "INFO", f"{where}{finding.reason} ({finding.severity}): {finding.message}")
        elif finding.severity == "info":
            self._say(event, new, "INFO", f"{where}{finding.reason}: {finding.message}")
        else:
            self._say(event, new, "ALERT", f"{where}{finding.reason} ({finding.severity}): {told(finding)}")
        return new

    def incident(self, turn: IncidentEvent) -> bool:
        """A turn of an incident: an alert where it got worse, or was open when we first met the run."""
        event = incident_json(turn)
        new = self.events.append(event)
        if turn.state == "escalated" or (turn.state == "opened" and turn.historical and turn.seq):
            self._say(event, new, "ALERT", f"Incident {turn.state} ({turn.severity}): {turn.message}")
        elif turn.state == "resolved" and not turn.historical:
            self._say(event, new, "INFO", f"Incident resolved: {turn.message}")
        return new and not turn.historical

    def gated(self, decision: Decision, why: str) -> bool:
        """A snapshot that is held back."""
        facts = {"step": decision.step, "bytes": 0, "seconds": 0.0, "time": iso(time.time()), "why": why}
        event = _snapshot(decision.id, "gated", "", decision.reason) | facts
        new = self.events.append(event)
        self._say(event, new, "INFO", f"Snapshot {decision.reason} held back (gated): {why}")
        return new

    def outcome(self, done: StoreEvent, snapshots: Path) -> bool:
        """How a promised snapshot went."""
        event = (
            _snapshot(done.id, done.state, done.name, done.reason)
            | {"step": done.step, "bytes": done.bytes, "seconds": round(done.seconds, 3), "time": iso(time.time())}
            | {"why": done.why, "missing": [dict(m) for m in done.missing]}
        )
        new = self.events.append(event)
        if done.state == "published":
            took = f"{size(done.bytes)} in {done.seconds:.1f} s"
            lacking = f"; missing: {'; '.join(str(m.get('why', '')) for m in done.missing)}" if done.missing else ""
            self._say(event, new, "ALERT", f"Snapshot saved: {snapshots / done.name} ({took}){lacking}")
        else:
            self._say(event, new, "ERROR", f"Snapshot {done.reason or done.name} {done.state}: {done.why}")
        for path in done.damaged:
            self.log.error(f"{snapshots / path} no longer holds what was published; `smart-monitor snapshots verify` tells more")
        return new

    def has_outcome(self, done: StoreEvent) -> bool:
        """Does the event of this outcome stand already (as far as the past is remembered)?"""
        return self.events.has(_snapshot(done.id, done.state, "", ""))

    def was_settled(self, decision: Decision) -> bool:
        """After a crash: is there nothing left to do for this decision, because it was kept or needed no keeping?"""
        settled = ("published", "gated") if decision.only_if_newer else ("published",)
        return any(self.events.has(_snapshot(decision.id, state, "", "")) for state in settled)

    def _say(self, event: dict[str, Any], new: bool, level: str, text: str) -> None:
        if new or (self.events.ends_with(event) and not self.log.holds(text)):
            self.log.say(level, text)


def _snapshot(decision: str, state: str, name: str, reason: str) -> dict[str, Any]:
    return {"event": "snapshot", "schema": SCHEMA, "id": decision, "state": state, "name": name, "reason": reason}
