"""Findings as the dictionaries that the faces return, and the bounded file they are appended to."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smart_monitor.linefile import LineFile
from smart_monitor.model import SCHEMA, Finding, iso, to_json

WORDS = {"critical": "critical", "warning": "high", "info": "medium"}
"""Our severity (`level`) -> the word of these faces (`severity`)."""
WORDS_OF_KIND = {"gradient_explosion": "critical"}
"""Kinds whose word is another one."""
MAX_ALERTS = 10_000
MAX_DAYS = 30.0
DAY = 86400.0


def alert_of(finding: Finding, category: str, **more: Any) -> dict[str, Any]:
    """One alert.

    `severity` is critical, high or medium, by the table above; `level` the same in the words of the rest of Smart
    Monitor: critical, warning, info. `kind` names the rule (`smart-monitor rules KIND`), `category` is gradient,
    learning_rate, batch_size, convergence or reward. `metadata` is the rule's evidence, and `more`.
    """
    return {
        "step": finding.step, "timestamp": iso(finding.time), "category": category, "kind": finding.kind,
        "severity": WORDS_OF_KIND.get(finding.kind, WORDS[finding.severity]), "level": finding.severity,
        "message": finding.message, "advice": finding.advice, "metric": finding.metric, "value": finding.value,
        "threshold": finding.threshold, "baseline": finding.baseline, "score": finding.score,
        "metadata": {**finding.evidence, "strategy": finding.strategy, **more},
    }  # fmt: skip


class AlertFile:
    """`directory`/alerts.jsonl: at most `most` lines, none older than `days`. No method raises on what a disk can be."""

    def __init__(self, directory: Path, most: int = MAX_ALERTS, days: float = MAX_DAYS) -> None:
        self.path, self.most, self.days = directory / "alerts.jsonl", most, days
        self.trouble = ""
        """Why the last alert could not be written; empty when all are on the disk."""
        self._lines = LineFile(directory, mode=0o644)
        self._count = 0
        self._oldest = time.time()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._prune()
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return AlertFile, (self.path.parent, self.most, self.days)  # a copy opens the file itself

    def append(self, alerts: Iterable[Mapping[str, Any]]) -> None:
        for alert in alerts:
            self._lines.append(self.path.name, to_json({"schema": SCHEMA, "time": time.time(), **alert}, default=str))
            self._count += 1
        self.trouble = self._lines.trouble
        # A tenth is let go at once, so that a full file is not written anew with every alert.
        if self._count > self.most * 1.1 or time.time() - self._oldest > (self.days * 1.1) * DAY:
            try:
                self._prune()
            except OSError as error:
                self.trouble = error.strerror or str(error)

    def _prune(self) -> None:
        """Keep the newest lines that are young enough; the file is replaced in one rename."""
        if not self.path.exists():
            return
        since = time.time() - self.days * DAY
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _written(line) >= since][-self.most :]
        if len(kept) < len(lines):
            beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            os.replace(beside, self.path)
        self._count = len(kept)
        self._oldest = _written(kept[0]) if kept else time.time()


def _written(line: str) -> float:
    """When a line was written; 0.0 for what is none of ours."""
    try:
        return float(json.loads(line)["time"])
    except (ValueError, TypeError, KeyError):
        return 0.0
