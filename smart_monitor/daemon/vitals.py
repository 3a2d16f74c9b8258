"""Vitals: a small file, rewritten when something was told and before it grows old, from which `status` and `doctor` speak."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smart_monitor.daemon.place import Place, read_small
from smart_monitor.model import SCHEMA, to_json
from smart_monitor.snapshots.folders import write_atomically

if TYPE_CHECKING:
    from smart_monitor.daemon.run import Run
    from smart_monitor.judge import Judge


FRESH, FRESH_COPYING, FRESH_NEWS = 15.0, 2.0, 1.0
"""Seconds at most; of a copy under way somebody may want to see how far it is; who reads an alert looks at `status` next."""


def vitals(run: Run, *, stopped: bool = False) -> dict[str, Any]:
    """How a run and its monitor are, as plain JSON; `stopped`: its last word before a proper end."""
    judge, sight, store = run.engine.judge(), run.outlook.sight, run.keeper.store
    return {
        "schema": SCHEMA, "pid": os.getpid(), "time": time.time(), "run": run.name, "base": str(run.place.base),
        "out": str(run.place.out), "sight": {"ok": sight.ok, "why": sight.why, "path": sight.path},
        "trainer": run.word, "records": run.journal.records, "last_seen": run.last_seen, "unseen_steps": run.unseen,
        "copying": store.busy, "copy": store.progress, "promised": [i.name for i in store.open],
        "remote": run.remote.vitals(time.monotonic()),
        "ranks": sorted(run.engine.ranks), "process": process(run), "pace": pace(run), "sources": list(run.seen),
        "holds": run.keeper.holding.vitals(),
        "watchdog": "off" if run.wake is None else run.wake.trouble or "on", "trouble": run.complaint.text, "stopped": stopped,
        "rests": run.rests,
        "poll_interval": run.settings.poll_interval,
    } | (_judged(judge) | {"open_incidents": _open(run)} if judge is not None else {})  # fmt: skip


def fresh_for(run: Run) -> float:
    """Seconds after which the vitals are written anew, if nothing asks for it sooner."""
    soon = FRESH_NEWS if run.news else FRESH_COPYING if run.keeper.store.progress else FRESH
    return min(soon, 1.5 * run.settings.poll_interval)


def _judged(judge: Judge) -> dict[str, Any]:
    return {
        "attempt": judge.attempts.number, "step": judge.step, "by": judge.by, "total": judge.total,
        "values": dict(judge.previous),
        "findings": dict(judge.counts),
        "near": near(judge),
    }  # fmt: skip


def _open(run: Run) -> list[dict[str, Any]]:
    return [{name: i[name] for name in ("severity", "kinds", "first_step", "ranks", "several")} for i in run.engine.incidents]


def process(run: Run) -> dict[str, Any]:
    """The trainer's process, and the word for how it is: alive, silent, dead, finished or unknown."""
    found, host = run.trainer.vitals(), run.engine.judge(0)
    if host is not None and "stall " in host.episodes and found["word"] in ("alive", "unknown"):
        found["word"] = "silent"
    return found


def pace(run: Run) -> dict[str, Any]:
    """What the run is thought to be doing, and how long that may take before it stalls."""
    from smart_monitor.rules.stall import Stall  # not for those who only read vitals

    host = run.engine.judge(0)
    rule = host.rules.get("stall") if host is not None else None
    return rule.pace(run.settings) if isinstance(rule, Stall) else {}


def near(judge: Judge) -> list[dict[str, Any]]:
    """For each judged metric: its level and noise, where its rule would fire, and how much it has varied."""
    found = []
    for metric, base in judge.baselines.items():
        if not base.admitted:
            continue
        seen = base.lately(base.window)
        found.append({
            "metric": metric, "values": base.admitted, "warming_up": not base.mature, "level": base.level,
            "mean": base.mean, "noise": base.noise, "last": seen[-1] if seen else None,
            "constant": len(seen) >= 3 and min(seen) == max(seen),
        })  # fmt: skip
    return found


def write_vitals(place: Place, document: Mapping[str, Any]) -> None:
    """Replace the vitals; a full disk costs us nothing but their freshness."""
    try:
        write_atomically(place.vitals, to_json(document).encode() + b"\n", durable=False)
    except OSError:
        pass  # the log has said so already


def read_vitals(place: Place) -> dict[str, Any] | None:
    """The last vitals; None if there are none that can be read."""
    try:
        document = json.loads(read_small(place.vitals))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("schema") == SCHEMA else None
