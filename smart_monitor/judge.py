"""One rank of one run: attempt, judged values, rules, incidents and gates, in that order."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from smart_monitor.aliases import METRICS
from smart_monitor.config import Settings
from smart_monitor.incidents import RANK, Conditions, Gates, Incidents, decision_of, escalation_of, gate_width
from smart_monitor.model import OUTCOME, RECORD, STATE, Decision, Finding, Output, Record, finding_state, to_float
from smart_monitor.rules import FAILURE, NOBODY, RESTART, Moment, Rule, Verdict
from smart_monitor.rules._asking import Asked, Desk, Plan, Plans
from smart_monitor.rules._telling import finding_of
from smart_monitor.stats.attempts import Attempts
from smart_monitor.stats.baseline import Baseline
from smart_monitor.stats.baselines import Baselines
from smart_monitor.stats.crew import Crew
from smart_monitor.stats.shapes import SHAPES

FRACTION_LIMIT = 1.5
BEST = "best_model"
ENDED, GONE = ("completed", "crashed"), ("dead", "finished")
REMEMBERED = 64
"""Values of the last record that are remembered; of a row with more only those of known meaning."""


class Judge:
    """The fold of one rank. Everything it remembers is in `state()`."""

    def __init__(self, run: str, rank: int, settings: Settings, classes: Mapping[str, type[Rule]], crew: Crew) -> None:
        self.run, self.rank, self.settings, self.crew = run, rank, settings, crew
        self._phased = [settings.at(phase.until_step) for phase in settings.phases]
        self.rules: dict[str, Rule] = {}
        self.broken: list[tuple[str, str]] = []
        """(rule, error) of rules that cannot be asked at all."""
        self.by_line: dict[str, list[Asked]] = {}
        self._ended_by: dict[str, dict[str, str]] = {}
        """Kind of line -> the keys of the conditions that it ends, and their rules."""
        by_metric: dict[str, list[Asked]] = {}
        for kind, cls in classes.items():
            self._install(kind, cls, by_metric)
        # An evaluation's loss before the loss, that before the others.
        order = sorted(by_metric, key=lambda metric: (metric not in ("eval_loss", "loss"), metric))
        self.desks = {metric: Desk(by_metric[metric], (settings, *self._phased)) for metric in order}
        self._always = self.by_line.get(RECORD, [])
        self._plans = Plans()
        self.attempts = Attempts()
        learn = [m for m, desk in self.desks.items() if any(rule.baselined for rule, *_ in desk.asked)]
        self.baselines = Baselines(learn, self._fresh)
        self.incidents, self.gates = Incidents(), Gates()
        self.episodes: dict[str, int] = {}
        """`kind metric` of each condition that is true -> records for which it has not been."""
        self.percent: dict[str, bool] = {}
        """Accuracies known to be written as 0-100."""
        self.previous: dict[str, float] = {}
        self.histories: dict[str, deque[Any]] = {m: deque(maxlen=settings.loss_window) for m in ("loss", "accuracy", "place")}
        self._places = self.histories["place"]
        self.pending: dict[str, Any] | None = None
        """A best model that a gate holds back: {"finding", "facts"}."""
        self.step: int | None = None
        """The last step of training: evaluation may count otherwise."""
        self.by = "step"
        self.total: int | None = None
        self.rate: float | None = None
        """The last learning rate: rows of evaluation give none."""
        self.records = 0
        self.counts: dict[str, int] = {}

    def _install(self, kind: str, cls: type[Rule], by_metric: dict[str, list[Asked]]) -> None:
        try:
            rule = cls()
            metrics, lines, ends = tuple(rule.metrics), tuple(rule.listens), tuple(rule.ended_by)
        except Exception as error:  # a plug-in's exception becomes a finding about us, never an outage
            self.broken.append((kind, _words(error)))
            return
        self.rules[kind] = rule
        for metric in metrics:
            by_metric.setdefault(metric, []).append((rule, f"{kind} {metric}", metric, rule.judge))
        for line in ends:
            keys = (f"{kind} {metric}" for metric in (*metrics, *([""] if lines else ())))
            self._ended_by.setdefault(line, {}).update(dict.fromkeys(keys, kind))
        for line in lines:
            self.by_line.setdefault(line, []).append((rule, f"{kind} ", "", rule.judge))

    def _fresh(self, metric: str) -> Baseline:
        return Baseline(guard=self.settings.noise_guard, window=self.settings.loss_window, **SHAPES.get(metric, {}))

    # -- the fold ---------------------------------------------------------------------------------

    def feed(self, record: Record) -> list[Output]:
        """Fold one line; outputs in the order in which they are to be performed."""
        if record.kind != RECORD:
            return self._line(record)
        plan = self._plan(record.values)
        moment = self._moment(record, plan)
        if moment.zero_loss:
            plan = self._plan(moment.values)
        outputs: list[Output] = self._new_attempt(record, moment) if moment.restarted else []
        findings = self._ask(moment, plan)
        if findings or self.incidents.open or self.pending is not None:
            outputs += [f for f, _ in findings]
            outputs += self._consequences(moment, findings)
        return outputs

    def _line(self, record: Record) -> list[Output]:
        """A tick, a state or an outcome: nothing is learned from it, rules and gates may act on it."""
        moment = self._aside(record)
        findings: list[tuple[Finding, Rule]] = []
        self._end(record.kind)
        self._put(self.by_line.get(record.kind, ()), moment, findings)
        if moment.failures:
            self._put(self.by_line.get(FAILURE, ()), moment, findings)
        outputs: list[Output] = [f for f, _ in findings]
        return [*outputs, *self._hear(record, moment.fired), *self._consequences(moment, findings)]

    def _end(self, line: str) -> None:
        """Forget the conditions that a line of this kind ends."""
        for key in self._ended_by.get(line, ()):
            self.episodes.pop(key, None)

    def _aside(self, record: Record) -> Moment:
        """The moment of a line that is no record of this rank."""
        number, settings = self.attempts.number, self._in_force(self.step)
        return Moment(record, settings, {}, self.baselines, self.step, number, self._places, crew=self.crew)

    def overhear(self, record: Record) -> list[Output]:
        """What a line that is addressed to another rank means for this one: how snapshots went, that the run ended."""
        outputs = self._hear(record)
        if self.pending is not None and record.kind == STATE and not record.historical:
            outputs += self._best(self._aside(record), new=False)
        return outputs

    def _hear(self, record: Record, fired: Iterable[str] = ()) -> list[Output]:
        if record.kind == OUTCOME and record.state == "failed":
            self.gates.failed(record.ids.get("decision", ""))
        if record.kind == STATE and record.state in ENDED:
            return list(self.incidents.close(f"the run {record.state}", record, tuple(fired)))
        return []

    def _in_force(self, step: int | None) -> Settings:
        if self._phased and step is not None:
            for phase, settings in zip(self.settings.phases, self._phased, strict=True):
                if step <= phase.until_step:
                    return settings
        return self.settings

    def _plan(self, values: Mapping[str, float]) -> Plan:
        names = tuple(values)
        return self._plans.of(names) or self._plans.make(names, self.desks, self.baselines.meet(names), self._always)

    def _moment(self, record: Record, plan: Plan) -> Moment:
        values, finite = self._judged(record, plan)
        zero = values.get("loss") == 0.0 and not math.isfinite(values.get("grad_norm", math.nan))
        if zero:
            del values["loss"]
        attempts, previous = self.attempts, self.previous
        training = attempts.asks(record)
        restarted = attempts.observe(record, training=training, loss=self.baselines.get("loss"))
        step = record.step
        if step is None:
            step = record.index if record.by == "row" else self.step
        if training:
            self.step, self.by = step, record.by
            if record.total:
                self.total = record.total
        self.records += 1
        moment = Moment(
            record, self._in_force(step) if self._phased else self.settings, values, self.baselines, step, attempts.number,
            self._places, {} if restarted else previous, NOBODY, restarted, zero, finite,
        )  # fmt: skip
        if plan.evaluation:
            moment.evaluation = any(m in values and values[m] != previous.get(m) for m in ("eval_loss", "eval_accuracy"))
        if self.broken:
            moment.failures.extend(self.broken)
        return moment

    def _judged(self, record: Record, plan: Plan) -> tuple[dict[str, float], bool]:
        """The values as rules see them, and whether all are finite."""
        values, finite = dict(record.values), True
        for value in values.values():
            if value.__class__ is not float:
                values = {name: to_float(v) for name, v in values.items()}
                finite = all(map(math.isfinite, values.values()))
                break
            if value - value != 0.0:
                finite = False
        for metric in plan.accuracies:
            if not self.percent.get(metric):
                if FRACTION_LIMIT < values[metric] < math.inf:
                    self._as_percent(metric)
                else:
                    values[metric] *= 100.0
        return values, finite

    def _as_percent(self, metric: str) -> None:
        """What was read as a fraction so far was none: that past is worth nothing."""
        self.percent[metric] = True
        if metric in self.baselines:
            self.baselines[metric] = self._fresh(metric)
        for rule, key, *_ in self.desks[metric].asked if metric in self.desks else ():
            rule.memory.pop(metric, None)
            self.episodes.pop(key, None)
        if metric == "accuracy":
            self.histories["accuracy"].clear()
        if self.pending is not None and self.pending["finding"].metric == metric:
            self.pending = None

    def _new_attempt(self, record: Record, moment: Moment) -> list[Output]:
        moment.before = {metric: base.level for metric, base in self.baselines.items() if base.admitted}
        self.baselines = moment.baselines = self.baselines.successors()
        for rule in self.rules.values():
            if not rule.survives:
                rule.memory = {}
        self.episodes.clear()
        self.gates = Gates()
        self.previous, self.records = {}, 1
        for history in self.histories.values():
            history.clear()
        return list(self.incidents.close("a new attempt began", record))

    def _ask(self, moment: Moment, plan: Plan) -> list[tuple[Finding, Rule]]:
        """Ask every rule that the record concerns, then let the baselines learn from it."""
        values, baselines = moment.values, self.baselines
        findings: list[tuple[Finding, Rule]] = []
        if self.episodes:
            self._end(RECORD)
        episodes, known = self.episodes, baselines.get
        concerned = [desk.whom(values[metric], known(metric), episodes) for metric, desk in plan.desks]
        for group in [plan.together] if concerned == plan.usual else [*concerned, self._always]:
            self._put(group, moment, findings)
        if moment.restarted:
            self._put(self.by_line.get(RESTART, ()), moment, findings)
        if moment.failures:
            self._put(self.by_line.get(FAILURE, ()), moment, findings)
        for metric, desk in plan.learn:
            baselines[metric].observe(values[metric], flagged=metric in moment.aside, calm=desk.calm)
        self._remember(moment)
        return findings

    def _remember(self, moment: Moment) -> None:
        values = moment.values
        if "loss" in values:
            self.histories["loss"].append(values["loss"])
            self._places.append((moment.record.index, moment.step))
        if "accuracy" in values:
            self.histories["accuracy"].append(values["accuracy"])
        self.rate = values.get("learning_rate", self.rate)
        self.previous = values if len(values) <= REMEMBERED else {k: v for k, v in values.items() if k in METRICS}

    def _put(self, group: Iterable[Asked], moment: Moment, findings: list[tuple[Finding, Rule]]) -> None:
        """Ask a group of rules; a first true answer becomes a finding."""
        episodes = self.episodes
        for rule, key, metric, judge in group:
            try:
                verdict = judge(moment, metric)
                if verdict is not None:
                    self._fire(rule, key, moment, verdict, findings)
                    if rule.sets_aside:
                        moment.aside.append(metric)
                    continue
            except Exception as error:  # a plug-in's exception becomes a finding about us, never an outage
                moment.failures.append((rule.kind, _words(error)))
                continue
            if episodes and key in episodes:
                episodes[key] += 1
                if episodes[key] >= rule.rearm:
                    del episodes[key]

    def _fire(self, rule: Rule, key: str, moment: Moment, verdict: Verdict, findings: list[tuple[Finding, Rule]]) -> None:
        if key not in self.episodes or verdict.anew:
            findings.append((finding_of(rule, moment, verdict, self.run, self.rank), rule))
            self.counts[rule.kind] = self.counts.get(rule.kind, 0) + 1
        elif verdict.severity == "critical":
            moment.worse = {**(moment.worse or {}), rule.kind: verdict.message}
        moment.fired.append(rule.kind)
        if rule.rearm and rule.kind != BEST:
            self.episodes[key] = 0

    # -- consequences -----------------------------------------------------------------------------

    def _consequences(self, moment: Moment, findings: list[tuple[Finding, Rule]]) -> list[Output]:
        record = moment.record
        outputs: list[Output] = []
        troubles = [(r.family, f) for f, r in findings if r.family and f.severity != "info"]
        if troubles or self.incidents.open:
            for event, lasting in self.incidents.fold(record, troubles, self._conditions(moment), moment.step):
                outputs.append(event)
                if lasting and not record.historical:
                    where = (record.source, self.rank, moment.attempt, record.index)
                    outputs.append(escalation_of(event, lasting, where, moment.step, self._facts(moment)))
        if record.historical:
            return outputs
        kept = [f for f, r in findings if r.keeps(f) and r.kind != BEST]
        if kept:
            kept.sort(key=lambda f: -RANK[f.severity])
            outputs.append(self._decide(moment, kept, "snapshot"))
        best = [f for f, r in findings if r.kind == BEST]
        if best:
            self.pending = {"finding": best[-1], "facts": self._facts(moment)}
        if self.pending is not None:
            outputs += self._best(moment, new=bool(best))
        return outputs

    def _conditions(self, moment: Moment) -> Conditions:
        line, values = moment.record.kind, moment.values
        holding = {key.split(" ", 1)[0] for key in self.episodes}
        asked = {rule.kind for rule, *_ in self.by_line.get(line, ())} | {*self._ended_by.get(line, {}).values()}
        asked.update(rule.kind for metric in values if metric in self.desks for rule, *_ in self.desks[metric].asked)
        return Conditions(holding, set(moment.fired), asked, moment.worse or {})

    def _best(self, moment: Moment, *, new: bool) -> list[Output]:
        """The best model that waits for its gate: taken when it opens or the run ends."""
        assert self.pending is not None
        decision = self._decide(moment, [self.pending["finding"]], BEST, self.pending["facts"])
        if not decision.gated:
            self.pending = None
            return [decision]
        return [decision] if new else []

    def _decide(self, moment: Moment, found: list[Finding], what: str, facts: Mapping[str, Any] | None = None) -> Decision:
        record, gated = moment.record, ""
        severity = found[0].severity  # the worst comes first
        # A run that ended or hangs will open no gate any more.
        ended = record.state in (ENDED if record.kind == STATE else GONE) or "stall " in self.episodes
        if severity != "critical" and not ended:
            need, unit = gate_width(self.by, self.total, moment.settings)
            shut = [self.gates.closed(f.kind, self.step, self.records, need, unit) for f in found]
            gated = "; ".join(shut) if all(shut) else ""
        decision = decision_of(found, what, severity, facts or self._facts(moment), gated)
        if not gated:
            self.gates.taken(decision, self.step, self.records)
        return decision

    def _facts(self, moment: Moment) -> dict[str, Any]:
        """The judged figures for metadata.json, as they stood at this record.

        What a row of evaluation does not give (loss, rate) is what was last known of it.
        """
        losses, accuracies = list(self.histories["loss"]), list(self.histories["accuracy"])
        loss = None if "loss" in moment.record.nulls else losses[-1] if losses else None
        best = self.rules[BEST].memory.get("loss") if BEST in self.rules else None
        return {
            "loss": 0.0 if moment.zero_loss else loss, "accuracy": accuracies[-1] if accuracies else None,
            "learning_rate": self.rate, "loss_history": losses, "accuracy_history": accuracies,
            "best_loss": best["best"] if best else None, "best_loss_step": best["step"] if best else None,
            **({} if moment.record.by == "step" else {"by": moment.record.by}),
        }  # fmt: skip

    # -- state ------------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Everything remembered, as plain JSON, for who writes it down at once: what is in it goes on changing."""
        pending = self.pending
        return {
            "attempts": self.attempts.state(), "baselines": {m: b.state() for m, b in self.baselines.items()},
            "rules": self._memories(), "incidents": self.incidents.open,
            "gates": self.gates.last, "episodes": self.episodes, "percent": self.percent, "previous": self.previous,
            "histories": {m: list(h) for m, h in self.histories.items()},
            "pending": pending and {"finding": finding_state(pending["finding"]), "facts": pending["facts"]},
            "step": self.step, "by": self.by, "total": self.total, "rate": self.rate, "records": self.records,
            "counts": self.counts,
        }  # fmt: skip

    def _memories(self) -> dict[str, Any]:
        found = {}
        for kind, rule in self.rules.items():
            try:
                if rule.memory:
                    json.dumps(rule.memory)
                    found[kind] = rule.memory
            except (TypeError, ValueError, RecursionError):
                self.broken = [(k, e) for k, e in self.broken if k != kind] + [(kind, "its memory is not plain JSON")]
        return found

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `memory()`, as far as these settings and rules have a use for it."""
        state = json.loads(json.dumps(state))
        self.attempts.restore(state["attempts"])
        self.baselines.restore(state["baselines"])
        for kind, memory in state["rules"].items():
            if kind in self.rules:
                self.rules[kind].memory = memory
        self.incidents.open, self.gates.last = state["incidents"], state["gates"]
        self.episodes = {key: n for key, n in state["episodes"].items() if key.split(" ", 1)[0] in self.rules}
        self.percent, self.previous, self.counts = state["percent"], state["previous"], state["counts"]
        for name, values in state["histories"].items():
            self.histories[name].extend(tuple(v) if isinstance(v, list) else v for v in values)
        pending = state["pending"]
        self.pending = pending and {"finding": Finding(**pending["finding"]), "facts": pending["facts"]}
        self.step, self.by, self.total, self.rate = state["step"], state["by"], state["total"], state["rate"]
        self.records = state["records"]


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
