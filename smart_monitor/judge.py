"""One rank of one run: attempt, judged values, rules, incidents and gates, in that order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.incidents import Gates, Incidents, gate_width
from smart_monitor.model import (
    OUTCOME,
    RECORD,
    STATE,
    Decision,
    Finding,
    IncidentEvent,
    Output,
    Record,
    event_id,
    finding_state,
)
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.attempts import Attempts
from smart_monitor.stats.baseline import SHAPES, Baseline

ACCURACIES = ("accuracy", "eval_accuracy")
FRACTION_LIMIT = 1.5
EVALUATIONS = ("eval_loss", "eval_accuracy")
WITNESSES = ("grad_norm", "learning_rate", "eval_loss", "accuracy")
BEST = "best_model"
ENDED = ("completed", "crashed")


class Judge:
    """The fold of one rank. Everything it remembers is in `state()`."""

    def __init__(self, run: str, rank: int, settings: Settings, classes: Mapping[str, type[Rule]]) -> None:
        self.run, self.rank, self.settings = run, rank, settings
        self.rules: dict[str, Rule] = {kind: cls() for kind, cls in classes.items()}
        self.by_metric: dict[str, list[Rule]] = {}
        self.by_line: dict[str, list[Rule]] = {}
        for rule in self.rules.values():
            for metric in rule.metrics:
                self.by_metric.setdefault(metric, []).append(rule)
            for line in rule.listens:
                self.by_line.setdefault(line, []).append(rule)
        # What the rules about rules says is judged last, when all others have been asked.
        for rules in self.by_line.values():
            rules.sort(key=lambda r: r.kind == "rule_failed")
        self.attempts = Attempts()
        self.baselines = {m: self._fresh(m) for m, rs in self.by_metric.items() if any(r.baselined for r in rs)}
        self.incidents = Incidents()
        self.gates = Gates()
        self.episodes: dict[str, int] = {}
        """`kind metric` of each condition that is true -> records for which it has not been."""
        self.percent: dict[str, bool] = {}
        """Accuracies known to be written as 0-100."""
        self.previous: dict[str, float] = {}
        self.histories: dict[str, deque[Any]] = {m: deque(maxlen=settings.loss_window) for m in ("loss", "accuracy", "place")}
        self.pending: dict[str, Any] | None = None
        """A best model that a gate holds back: {"finding", "facts"}."""
        self.step: int | None = None
        self.by = "step"
        self.total: int | None = None
        self.records = 0
        self.counts: dict[str, int] = {}

    def _fresh(self, metric: str) -> Baseline:
        return Baseline(guard=self.settings.noise_guard, window=self.settings.loss_window, **SHAPES.get(metric, {}))

    # -- the fold ---------------------------------------------------------------------------------

    def feed(self, record: Record) -> list[Output]:
        """Fold one line; outputs in the order in which they are to be performed."""
        if record.kind == OUTCOME and record.state == "failed":
            self.gates.failed(record.ids.get("decision", ""))
        moment = self._moment(record)
        outputs: list[Output] = []
        if moment.restarted:
            outputs += self._new_attempt(record)
        findings, aside = self._ask(moment)
        if record.kind == RECORD:
            self._learn(moment, aside)
        outputs += [f for f, _ in findings]
        if record.kind == STATE and record.state in ENDED:
            outputs += self.incidents.close(f"the run {record.state}", record)
        outputs += self._consequences(moment, findings)
        return outputs

    def _moment(self, record: Record) -> Moment:
        if record.kind != RECORD:
            moment = Moment(record, self.settings, {}, self.baselines)
            moment.step, moment.attempt = self.step, self.attempts.number
            return moment
        values = self._judged(record)
        zero = values.get("loss") == 0.0 and not math.isfinite(values.get("grad_norm", math.nan))
        if zero:
            del values["loss"]
        previous = self.previous
        evaluation = any(m in values and values[m] != previous.get(m) for m in EVALUATIONS)
        training = "loss" in record.values or not evaluation
        restarted = self.attempts.observe(record, training=training)
        moment = Moment(record, self.settings.at(record.step), values, self.baselines)
        moment.zero_loss, moment.evaluation, moment.restarted = zero, evaluation, restarted
        moment.attempt = self.attempts.number
        moment.previous = {} if restarted else previous
        if record.step is None:
            moment.step = self.step if record.by != "row" else record.index
        self.step, self.by = moment.step, record.by
        self.total = record.total or self.total
        self.records += 1
        return moment

    def _judged(self, record: Record) -> dict[str, float]:
        values = dict(record.values)
        for metric in ACCURACIES:
            value = values.get(metric)
            if value is None:
                continue
            if not self.percent.get(metric) and value > FRACTION_LIMIT:
                self.percent[metric] = True
                # What was read as a fraction so far was none: that past is worth nothing.
                if metric in self.baselines:
                    self.baselines[metric] = self._fresh(metric)
                for rule in self.by_metric.get(metric, ()):
                    rule.memory.pop(metric, None)
                if metric == "accuracy":
                    self.histories["accuracy"].clear()
            if not self.percent.get(metric):
                values[metric] = value * 100.0
        return values

    def _new_attempt(self, record: Record) -> list[Output]:
        self.baselines = {m: b.successor() for m, b in self.baselines.items()}
        for rule in self.rules.values():
            if not rule.survives:
                rule.memory = {}
        self.episodes.clear()
        self.gates = Gates()
        self.previous, self.pending = {}, None
        self.records = 1
        for history in self.histories.values():
            history.clear()
        return list(self.incidents.close("a new attempt began", record))

    def _ask(self, moment: Moment) -> tuple[list[tuple[Finding, Rule]], set[str]]:
        moment.baselines, moment.history = self.baselines, self.histories["place"]
        findings: list[tuple[Finding, Rule]] = []
        aside: set[str] = set()
        if moment.record.kind == RECORD:
            by_metric = self.by_metric
            for metric in moment.values:
                for rule in by_metric.get(metric, ()):
                    if self._put(rule, moment, metric, findings) and rule.sets_aside:
                        aside.add(metric)
        for rule in self.by_line.get(moment.record.kind, ()):
            self._put(rule, moment, "", findings)
        return findings, aside

    def _put(self, rule: Rule, moment: Moment, metric: str, findings: list[tuple[Finding, Rule]]) -> bool:
        """Ask one rule; a first true answer becomes a finding. Is its condition true?"""
        try:
            verdict = rule.judge(moment, metric)
        except Exception as error:  # a plug-in's exception becomes a finding about us, never an outage
            moment.failures.append((rule.kind, f"{type(error).__name__}: {error}"[:300]))
            return False
        if verdict is None and not self.episodes:
            return False
        key = f"{rule.kind} {metric}"
        if verdict is None:
            if key in self.episodes:
                self.episodes[key] += 1
                if self.episodes[key] >= rule.rearm:
                    del self.episodes[key]
            return False
        if key not in self.episodes:
            findings.append((self._finding(rule, moment, verdict), rule))
            self.counts[rule.kind] = self.counts.get(rule.kind, 0) + 1
        if rule.rearm and rule.kind != BEST:
            self.episodes[key] = 0
        return True

    def _learn(self, moment: Moment, aside: set[str]) -> None:
        values, record = moment.values, moment.record
        for metric, baseline in self.baselines.items():
            value = values.get(metric)
            if value is not None:
                baseline.observe(value, flagged=metric in aside)
        loss = values.get("loss")
        if loss is not None:
            self.histories["loss"].append(loss)
            self.histories["place"].append((record.index, moment.step))
        if "accuracy" in values:
            self.histories["accuracy"].append(values["accuracy"])
        self.previous = values

    # -- consequences -----------------------------------------------------------------------------

    def _finding(self, rule: Rule, moment: Moment, verdict: Verdict) -> Finding:
        record, values = moment.record, moment.values
        evidence = {w: values[w] for w in WITNESSES if w in values and w != verdict.metric} | dict(verdict.evidence)
        base = moment.baselines.get(verdict.metric)
        if base is not None and base.admitted:
            evidence |= {"level": base.level, "noise": base.noise, "values": base.admitted}
        score = verdict.score
        return Finding(
            run=self.run, source=record.source, rank=self.rank, attempt=moment.attempt, record=record.index, step=moment.step,
            onset_record=record.index if verdict.onset_record is None else verdict.onset_record,
            onset_step=moment.step if verdict.onset_record is None else verdict.onset_step,
            time=record.time if record.time is not None else record.seen,
            kind=rule.kind, severity=verdict.severity or rule.severity, metric=verdict.metric, value=verdict.value,
            baseline=verdict.baseline, threshold=verdict.threshold,
            score=score if score is not None and math.isfinite(score) else None,
            reason=f"{rule.kind}_{verdict.number}" if verdict.number else rule.kind, strategy=verdict.strategy,
            message=verdict.message, advice=verdict.advice, evidence=evidence, historical=record.historical,
        )  # fmt: skip

    def _consequences(self, moment: Moment, findings: list[tuple[Finding, Rule]]) -> list[Output]:
        record = moment.record
        outputs: list[Output] = []
        troubles = [(r.family, f) for f, r in findings if r.family and f.severity != "info"]
        if troubles or self.incidents.open:
            holding = {key.split(" ", 1)[0] for key in self.episodes}
            for event, lasting in self.incidents.fold(record, troubles, holding, moment.step):
                outputs.append(event)
                if lasting and not record.historical:
                    outputs.append(self._escalation(event, moment))
        if record.historical:
            return outputs
        kept = [f for f, r in findings if r.snapshot and r.kind != BEST]
        if kept:
            outputs.append(self._decide(moment, kept, "snapshot"))
        for finding, rule in findings:
            if rule.kind == BEST:
                self.pending = {"finding": finding, "facts": self._facts(moment)}
        if self.pending is not None:
            outputs += self._best(moment, new=any(r.kind == BEST for _, r in findings))
        return outputs

    def _best(self, moment: Moment, *, new: bool) -> list[Output]:
        """The best model that waits for its gate: taken when it opens or the run ends."""
        assert self.pending is not None
        finding: Finding = self.pending["finding"]
        decision = self._decide(moment, [finding], BEST, self.pending["facts"])
        if not decision.gated:
            self.pending = None
            return [decision]
        return [decision] if new else []

    def _decide(self, moment: Moment, found: list[Finding], what: str, facts: Mapping[str, Any] | None = None) -> Decision:
        record, first = moment.record, found[0]
        severity = "critical" if any(f.severity == "critical" for f in found) else first.severity
        reasons = [f.reason for f in found]
        gated = ""
        # A run that ended or hangs will open no gate any more.
        ended = (record.kind == STATE and record.state in ENDED) or "stall " in self.episodes
        if severity != "critical" and not ended:
            need, unit = gate_width(self.by, self.total, moment.settings)
            shut = [self.gates.closed(f.kind, moment.step, self.records, need, unit) for f in found]
            gated = "; ".join(shut) if all(shut) else ""
        onsets = [f.onset_step for f in found if f.onset_step is not None]
        decision = Decision(
            id=event_id(self.run, first.source, self.rank, first.attempt, first.record, what), run=self.run, rank=self.rank,
            attempt=first.attempt, record=first.record, step=first.step, onset_step=min(onsets) if onsets else first.step,
            reason="_".join(reasons), kinds=tuple(f.kind for f in found), triggers=tuple(reasons), severity=severity,
            findings=tuple(found), facts=facts or self._facts(moment), gated=gated,
        )  # fmt: skip
        if not gated:
            self.gates.taken(decision, self.records)
        return decision

    def _escalation(self, event: IncidentEvent, moment: Moment) -> Decision:
        reason = f"{event.kinds[0]}_not_recovered"
        return Decision(
            id=event_id(self.run, moment.record.source, self.rank, moment.attempt, moment.record.index, "escalation"), run=self.run,
            rank=self.rank, attempt=moment.attempt, record=moment.record.index, step=moment.step, onset_step=event.first_step,
            reason=reason, kinds=event.kinds, triggers=(reason,), severity="critical", findings=(), facts=self._facts(moment),
            only_if_newer=True,
        )  # fmt: skip

    def _facts(self, moment: Moment) -> dict[str, Any]:
        """The judged figures for metadata.json, as they stood at this record."""
        values = moment.values or self.previous
        best = self.rules[BEST].memory.get("loss") if BEST in self.rules else None
        return {
            "loss": 0.0 if moment.zero_loss else values.get("loss"), "accuracy": values.get("accuracy"),
            "learning_rate": values.get("learning_rate"),
            "loss_history": list(self.histories["loss"]), "accuracy_history": list(self.histories["accuracy"]),
            "best_loss": best["best"] if best else None, "best_loss_step": best["step"] if best else None,
        }  # fmt: skip

    # -- settings and state -----------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        self.settings = settings
        for baseline in self.baselines.values():
            baseline.guard = settings.noise_guard
            half, window = max(settings.loss_window // 2, 3), max(settings.loss_window, 2)
            baseline.short, baseline.seen = deque(baseline.short, half), deque(baseline.seen, window)
        self.histories = {m: deque(h, settings.loss_window) for m, h in self.histories.items()}

    def state(self) -> dict[str, Any]:
        pending = self.pending
        return {
            "attempts": self.attempts.state(), "baselines": {m: b.state() for m, b in self.baselines.items()},
            "rules": {k: r.memory for k, r in self.rules.items() if r.memory}, "incidents": self.incidents.open,
            "gates": self.gates.last, "episodes": self.episodes, "percent": self.percent, "previous": self.previous,
            "histories": {m: list(h) for m, h in self.histories.items()},
            "pending": pending and {"finding": finding_state(pending["finding"]), "facts": pending["facts"]},
            "step": self.step, "by": self.by, "total": self.total, "records": self.records, "counts": self.counts,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        self.attempts.restore(state["attempts"])
        for metric, saved in state["baselines"].items():
            if metric in self.baselines:
                self.baselines[metric].restore(saved)
        for kind, memory in state["rules"].items():
            if kind in self.rules:
                self.rules[kind].memory = memory
        self.incidents.open, self.gates.last = dict(state["incidents"]), dict(state["gates"])
        self.episodes, self.percent = dict(state["episodes"]), dict(state["percent"])
        self.previous, self.counts = dict(state["previous"]), dict(state["counts"])
        for name, values in state["histories"].items():
            self.histories[name].extend(tuple(v) if isinstance(v, list) else v for v in values)
        pending = state["pending"]
        self.pending = pending and {"finding": Finding(**pending["finding"]), "facts": pending["facts"]}
        self.step, self.by, self.total, self.records = state["step"], state["by"], state["total"], state["records"]
