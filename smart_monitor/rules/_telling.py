"""From a rule's verdict to a finding. What a plug-in may get wrong is caught or mended here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smart_monitor.model import Finding
from smart_monitor.rules import Moment, Rule, Verdict

WITNESSES = ("grad_norm", "learning_rate", "eval_loss", "accuracy")
SEVERITIES = ("info", "warning", "critical")
MAX_TEXT = 1000
MAX_DEPTH = 4


def finding_of(rule: Rule, moment: Moment, verdict: Verdict, run: str, rank: int) -> Finding:
    """The finding that a verdict comes to. TypeError or ValueError if it is no verdict."""
    if not isinstance(verdict, Verdict):
        raise TypeError(f"the rule answered {type(verdict).__name__}, not a Verdict")
    record, values = moment.record, moment.values
    severity = verdict.severity or rule.severity
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} is none of {', '.join(SEVERITIES)}")
    evidence = {w: values[w] for w in WITNESSES if w in values and w != verdict.metric}
    base = moment.baselines.get(verdict.metric)
    if base is not None and base.admitted:
        evidence |= {"level": base.level, "noise": base.noise, "values": base.admitted}
    evidence |= {str(k): _plain(v) for k, v in verdict.evidence.items()}
    onset = verdict.onset_record is not None
    return Finding(
        run=run, source=record.source, rank=rank if verdict.rank is None else int(verdict.rank),
        attempt=moment.attempt, record=record.index, step=moment.step,
        onset_record=record.index if verdict.onset_record is None else int(verdict.onset_record),
        onset_step=verdict.onset_step if onset else moment.step,
        time=record.time if record.time is not None else record.seen,
        kind=rule.kind, severity=severity, metric=verdict.metric,
        value=None if verdict.value is None else float(verdict.value),
        baseline=_number(verdict.baseline), threshold=_number(verdict.threshold), score=_number(verdict.score),
        reason=f"{rule.kind}_{verdict.number}" if verdict.number else rule.kind, strategy=verdict.strategy,
        message=str(verdict.message)[:MAX_TEXT], advice=str(verdict.advice)[:MAX_TEXT],
        evidence=evidence, historical=record.historical,
    )  # fmt: skip


def _number(value: float | None) -> float | None:
    """A finite float, or None: a threshold that is no number is as good as none."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can hold, whatever a plug-in gives as evidence."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return {str(k): _plain(v, depth + 1) for k, v in value.items()}
    if depth < MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v, depth + 1) for v in value]
    return str(value)[:MAX_TEXT]
