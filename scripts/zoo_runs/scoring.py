"""What the monitor says of the zoo: each fault named, missed or called something else; each sound run left in peace or not."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.zoo_runs.visible import HARD_BATCH

Said = tuple[int, str, str]
"""Row that fired, kind, severity."""
SLACK = 5
"""Rows after a fault's end in which it can still be named."""
SLOW = ("slow_divergence", "blow_up", "label_shift", "batch_size")
PATIENCE = 100
"""Rows that a lasting fault may take to be named, at least; a tenth of the run if that is more."""
ALARMS = ("warning", "critical")


@dataclass
class Score:
    """One run's verdict. `outcome`: named, missed, other (called something else), unseen (not visible in the log) or clean."""

    id: str
    outcome: str
    kinds: list[str] = field(default_factory=list)
    alarms: list[Said] = field(default_factory=list)
    """Warnings and criticals outside every fault; on a sound run, all of them but those excused."""
    excused: list[Said] = field(default_factory=list)
    """Warnings of a spike at a hard batch that nobody could tell from one when it came."""

    @property
    def wrong(self) -> bool:
        """A visible fault unnamed, or a sound run that alarmed."""
        return self.outcome in ("missed", "other") or (self.outcome == "clean" and bool(self.alarms))


def judge(name: str, events: list[dict[str, Any]], rows: int, said: list[Said]) -> Score:
    """What to think of what was said of one run of so many rows."""
    if sound(events):
        excused = [s for s in said if s[2] == "warning" and any(s[0] == e["i_start"] and s[1] in e["expect"] for e in events)]
        return Score(name, "clean", alarms=[s for s in said if s[2] in ALARMS and s not in excused], excused=excused)
    (event,) = events
    start, last = event["i_start"], window_end(event, rows)
    near = [s for s in said if start - 1 <= s[0] <= last]
    right = [s for s in near if s[1] in event["expect"]]
    outside = [s for s in said if s[2] in ALARMS and not start - SLACK <= s[0] <= max(last, event["i_end"] + 100)]
    if not event["visible"]:
        outcome = "unseen"
    elif right:
        outcome = "named"
    else:
        outcome = "other" if any(s[2] in ALARMS for s in near) else "missed"
    return Score(name, outcome, sorted({s[1] for s in (right or near)}), outside)


def sound(events: list[dict[str, Any]]) -> bool:
    """Is a run with this truth without a fault?"""
    return all(event["kind"] == HARD_BATCH for event in events)


def window_end(event: dict[str, Any], rows: int) -> int:
    """The last row at which the event can still be named."""
    end = int(event["i_end"]) + SLACK
    slow = event["kind"] in SLOW or "reward_collapse" in event["expect"]
    return max(end, int(event["i_start"]) + max(PATIENCE, rows // 10)) if slow else end


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, packed or not."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def replayed(path: Path) -> list[Said]:
    """What `smart-monitor replay` finds in a log."""
    command = [sys.executable, "-m", "smart_monitor", "replay", str(path), "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # A traceback also ends with 1, and would pass for a silent run; how the log was read is said on stderr too.
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"{path.name}: {done.stderr.strip()[-300:]}")
    return list(_findings(done.stdout))


def _findings(text: str) -> Iterator[Said]:
    for line in text.splitlines():
        event = json.loads(line)
        if event.get("event") == "finding":
            yield event["record"], event["kind"], event["severity"]


def score(directory: Path, jobs: int) -> list[Score]:
    """Every run of a zoo that `scripts/zoo --out` has written."""
    truth = json.loads((directory / "truth.json").read_text(encoding="utf-8"))
    paths = [directory / "runs" / f"{name}.jsonl" for name in truth]
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(replayed, paths))
    return [judge(n, truth[n], len(rows_of(p)), s) for n, p, s in zip(truth, paths, found, strict=True)]


def report(scores: list[Score]) -> str:
    """The table for people, one line a run, and the sums."""
    lines = []
    for one in scores:
        mark = "!!" if one.wrong else "  "
        alarms = ", ".join(f"{kind} at {row}" for row, kind, _ in one.alarms[:4]) + (" ..." if len(one.alarms) > 4 else "")
        lines.append(
            f"{mark} {one.id:<42} {one.outcome:<7} {', '.join(one.kinds)}" + (f"  elsewhere: {alarms}" if alarms else "")
        )
    faults = [s for s in scores if s.outcome in ("named", "missed", "other")]
    clean = [s for s in scores if s.outcome == "clean"]
    loud, excused = sum(bool(s.alarms) for s in clean), sum(len(s.excused) for s in clean)
    count = Counter(s.outcome for s in scores)
    named, missed, other = count["named"], count["missed"], count["other"]
    lines.append(f"{named} of {len(faults)} visible faults named, {missed} missed, {other} called something else")
    lines.append(f"{count['unseen']} faults not to be seen; false alarms on {loud} of {len(clean)} sound runs")
    if excused:
        lines.append(
            f"told as spikes and excused: {excused} hard batches that stood out before their run had shown two like them"
        )
    return "\n".join(lines)
