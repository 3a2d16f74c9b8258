"""Telling: what happened, once in the events and, where a person should know, in the log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from smart_monitor.daemon.events import Events
from smart_monitor.daemon.log import Log
from smart_monitor.model import SCHEMA, Decision, Finding, IncidentEvent, finding_json, incident_json, iso
from smart_monitor.snapshots.store import StoreEvent


class Teller:
    """Every method returns whether the event was new; what stands in the events already is not told again."""

    def __init__(self, log: Log, events: Events) -> None:
        self.log, self.events = log, events

    def finding(self, finding: Finding) -> bool:
        """A finding; history is written down for programs and not announced."""
        if not self.events.append(finding_json(finding)) or finding.historical:
            return False
        if finding.severity == "info":
            self.log.info(f"{finding.reason}: {finding.message}")
        else:
            self.log.alert(f"{finding.reason} ({finding.severity}): {finding.message}. {finding.advice}")
        return True

    def incident(self, event: IncidentEvent) -> bool:
        """A turn of an incident: an alert where it got worse, or was open when we first met the run."""
        if not self.events.append(incident_json(event)):
            return False
        if event.state == "escalated" or (event.state == "opened" and event.historical and event.seq):
            self.log.alert(f"Incident {event.state} ({event.severity}): {event.message}")
        elif event.state == "resolved" and not event.historical:
            self.log.info(f"Incident resolved: {event.message}")
        return not event.historical

    def gated(self, decision: Decision) -> bool:
        """A snapshot that a gate holds back."""
        facts = {"step": decision.step, "bytes": 0, "seconds": 0.0, "time": iso(time.time()), "why": decision.gated}
        new = self.events.append(_snapshot(decision.id, "gated", "", decision.reason) | facts)
        if new:
            self.log.info(f"Snapshot {decision.reason} held back (gated): {decision.gated}")
        return new

    def outcome(self, done: StoreEvent, snapshots: Path) -> bool:
        """How a promised snapshot went."""
        new = self.events.append(
            _snapshot(done.id, done.state, done.name, done.reason)
            | {"step": done.step, "bytes": done.bytes, "seconds": round(done.seconds, 3), "time": iso(time.time())}
            | {"why": done.why, "missing": [dict(m) for m in done.missing]}
        )
        if new and done.state == "published":
            size = f"{done.bytes / 2**20:.1f} MiB in {done.seconds:.1f} s"
            lacking = f"; missing: {'; '.join(str(m.get('why', '')) for m in done.missing)}" if done.missing else ""
            self.log.alert(f"Snapshot saved: {snapshots / done.name} ({size}){lacking}")
        elif new:
            self.log.error(f"Snapshot {done.reason or done.name} {done.state}: {done.why}")
        return new

    def was_told(self, decision: Decision) -> bool:
        """After a crash: does the end of this snapshot stand in the events already?"""
        return any(self.events.has(_snapshot(decision.id, state, "", "")) for state in ("published", "failed", "lost"))


def _snapshot(decision: str, state: str, name: str, reason: str) -> dict[str, Any]:
    return {"event": "snapshot", "schema": SCHEMA, "id": decision, "state": state, "name": name, "reason": reason}
