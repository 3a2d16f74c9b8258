"""Explains: what the monitor saw at one step, rule by rule, and why it spoke or kept silent.

No rule's logic stands here. The state just before the record is given to a second engine whose rules are
overheard: each is asked as ever, then again with the noise guard off, and then with other values of its
metric, to find the nearest one at which it would have spoken. Pure, like the engine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from smart_monitor.config import Settings
from smart_monitor.engine import Engine
from smart_monitor.incidents import gate_width
from smart_monitor.judge import Judge
from smart_monitor.model import RECORD, SCHEMA, Decision, Finding, Output, Record, iso
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.baseline import MATURE

Said = Literal["fired", "held", "guarded", "silent", "failed"]
MEANING: dict[Said, str] = {
    "fired": "a finding",
    "held": "its condition is true; already told, the incident goes on",
    "guarded": "silent: would have fired without the noise guard",
    "silent": "silent",
    "failed": "the rule itself failed",
}
MOST = 20
"""Records of one step that are explained at most: a counter may stand still for a long time."""
HALVINGS = 60
"""Bisections for the value a rule speaks from: more than a double has bits to tell apart."""


class NoSuchStep(ValueError):
    """No record has that step; the text is one sentence that names the nearest."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one rule made of one metric of one record. Numbers not known (yet) are None."""

    run: str
    source: str
    rank: int
    attempt: int
    record: int
    step: int | None
    time: float | None
    line: str
    """Kind of journal line: record, tick, state or outcome."""
    rule: str
    metric: str
    value: float | None
    mean: float | None
    """Mean of the baseline's last half window."""
    level: float | None
    """Median of the baseline's last admitted values."""
    noise: float | None
    """Relative to the level (accuracy: in points / 100)."""
    score: float | None
    """Noises on the bad side of the level."""
    values: int
    """Values admitted to the baseline so far."""
    warming_up: str
    """Empty, or how many values the baseline still lacks."""
    threshold: float | None
    """What the rule compares with, as it says itself, guard or no guard."""
    compares: str
    """What it holds against what, in words, where no one value of the metric decides; else empty."""
    speaks_from: float | None
    """The nearest value of the metric at which the rule would say something, found by asking it."""
    said: Said
    gate: str
    """Whether a snapshot would be kept: open, closed and why, or that the rule keeps none."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One journal line of the step asked for: what was said of it, and who was not asked for want of what."""

    record: Record
    attempt: int
    outputs: tuple[Output, ...]
    explanations: tuple[Explanation, ...]
    not_asked: Mapping[str, tuple[str, ...]]
    """Rule -> the metrics, none of which the record carries."""


@dataclass(slots=True)
class _Note:
    """One asking of one rule, as it was overheard."""

    rule: Rule
    metric: str
    moment: Moment
    verdict: Verdict | None
    unguarded: Verdict | None
    error: str
    speaks_from: float | None
    threshold: float | None
    compares: str
    figures: dict[str, Any]


def explain(
    run: str, records: Iterable[Record], settings: Settings, rules: Mapping[str, type[Rule]], step: int
) -> Iterator[tuple[Record, list[Output], Seen | None]]:
    """Fold all records; each with what the engine said of it and, if it is of `step`, what was seen.

    Of the records of that step the first MOST are explained. Raises NoSuchStep at the end if there was none.
    """
    engine = Engine(run, settings, rules)
    below, above, found = -math.inf, math.inf, 0
    for record in records:
        at = _step_of(record, engine.judge(record.rank))
        if at is not None and record.kind == RECORD:
            below = max(below, at) if at < step else below
            above = min(above, at) if at > step else above
        if at != step or found == MOST:
            yield record, engine.feed(record), None
            continue
        state = engine.state()
        outputs = engine.feed(record)
        seen = _overhear(engine, state, record, outputs, rules)
        found += record.kind == RECORD
        yield record, outputs, seen if record.kind == RECORD or seen.explanations else None
    if not found:
        near = [f"{n:.0f}" for n in (below, above) if math.isfinite(n)]
        which = f"the nearest {'are' if len(near) > 1 else 'is'} {' and '.join(near)}" if near else "no record has a step"
        raise NoSuchStep(f"no record of step {step} in {run}; {which}")


def _step_of(record: Record, judge: Judge | None) -> int | None:
    """The step under which findings about `record` are told."""
    if record.kind == RECORD:
        if record.step is not None:
            return record.step
        if record.by == "row":
            return record.index
    step = judge.step if judge is not None else None
    # Where a run names no steps, messages count its rows.
    return record.index if step is None and record.kind == RECORD else step


def _overhear(
    engine: Engine, state: Mapping[str, Any], record: Record, outputs: list[Output], rules: Mapping[str, type[Rule]]
) -> Seen:
    notes: list[_Note] = []
    twin = Engine(engine.run, engine.settings, {kind: _overheard(kind, cls, notes.append) for kind, cls in rules.items()})
    twin.restore(state)
    twin.feed(record)
    judge = engine.ranks[record.rank]
    explanations = [_explanation(n, judge, outputs) for n in notes]
    missing = {}
    if record.kind == RECORD:
        # Rules that judge blocks are not asked in between: they lack nothing.
        missing = {
            k: tuple(r.metrics) for k, r in judge.rules.items() if r.metrics and judge.previous.keys().isdisjoint(r.metrics)
        }
    else:
        # A tick asks many rules of which nobody wants to know; those that speak are told.
        explanations = [e for e in explanations if e.said != "silent"]
    return Seen(record, judge.attempts.number, tuple(outputs), tuple(explanations), missing)


def _overheard(kind: str, cls: type[Rule], note: Callable[[_Note], None]) -> type[Rule]:
    """The rule `cls`, which takes a note of every time it is asked."""

    def judge(self: Rule, moment: Moment, metric: str) -> Verdict | None:
        memory, error = copy.deepcopy(self.memory), ""
        verdict: Verdict | None = None
        try:
            verdict = cls.judge(self, moment, metric)
        except Exception as fault:
            error = f"{type(fault).__name__}: {fault}"
            raise
        finally:
            after, self.memory = self.memory, memory
            asking = _Asking(self, cls, moment, metric)
            unguarded, speaks_from, threshold = asking.unguarded(), *asking.boundary(verdict)
            held, words = asking.compares()
            self.memory = after
            figures = _figures(moment, metric or (verdict.metric if isinstance(verdict, Verdict) else ""))
            if isinstance(verdict, Verdict) and verdict.threshold is not None:
                threshold = verdict.threshold
            elif threshold is None:
                threshold = held
            note(_Note(self, metric, moment, verdict, unguarded, error, speaks_from, threshold, words, figures))
        return verdict

    return type(cls.__name__, (cls,), {"kind": kind, "judge": judge, "__doc__": cls.__doc__, "__module__": cls.__module__})


class _Asking:
    """Asks a rule hypothetical questions; afterwards neither it nor a baseline remembers any of them."""

    def __init__(self, rule: Rule, cls: type[Rule], moment: Moment, metric: str) -> None:
        self.rule, self.cls, self.moment, self.metric = rule, cls, moment, metric
        self.memory = rule.memory

    def ask(self, value: float | None = None, *, guard: bool = True) -> Verdict | None:
        moment = copy.copy(self.moment)
        moment.failures, moment.fired, moment.aside = list(moment.failures), list(moment.fired), list(moment.aside)
        if value is not None:
            moment.values = {**moment.values, self.metric: value}
        self.rule.memory = copy.deepcopy(self.memory)
        guards = {name: base.guard for name, base in moment.baselines.items()}
        try:
            if not guard:
                moment.settings = replace(moment.settings, noise_guard=False)
                for base in moment.baselines.values():
                    base.guard = False
            verdict = self.cls.judge(self.rule, moment, self.metric)
            return verdict if isinstance(verdict, Verdict) else None
        except Exception:  # what a plug-in can't answer, nobody else can
            return None
        finally:
            for name, base in moment.baselines.items():
                base.guard = guards[name]
            self.rule.memory = self.memory

    def unguarded(self) -> Verdict | None:
        return self.ask(guard=False)

    def compares(self) -> tuple[float | None, str]:
        try:
            return self.cls.compares(self.rule, self.moment, self.metric) or (None, "")
        except Exception:  # as above
            return None, ""

    def boundary(self, verdict: object) -> tuple[float | None, float | None]:
        """(the nearest value the rule speaks from, its threshold there); (None, None) where no value makes it speak.

        Where it spoke, the nearest value that still makes it speak, coming from its baseline.
        """
        value, base = self.moment.values.get(self.metric, math.nan), self.moment.baselines.get(self.metric)
        if not self.metric or not math.isfinite(value):
            return None, None
        if isinstance(verdict, Verdict):
            calm = next((c for c in self._calm(base) if self.ask(c) is None), None)
            return self._between(calm, value) if calm is not None else (None, verdict.threshold)
        far = max(abs(value), 1.0) * 1e3
        found = [self._between(value, end) for end in (value + far, value - far) if self.ask(end) is not None]
        return min(found, key=lambda f: abs((f[0] or 0.0) - value), default=(None, None))

    def _calm(self, base: Any) -> list[float]:
        known = [self.moment.previous.get(self.metric), *((base.mean, base.level) if base is not None else ())]
        return [v for v in known if v is not None and math.isfinite(v)]

    def _between(self, quiet: float, loud: float) -> tuple[float | None, float | None]:
        for _ in range(HALVINGS):
            middle = quiet / 2 + loud / 2
            if middle in (quiet, loud):
                break
            if self.ask(middle) is None:
                quiet = middle
            else:
                loud = middle
        verdict = self.ask(loud)
        return loud, verdict.threshold if verdict is not None else None


def _figures(moment: Moment, metric: str) -> dict[str, Any]:
    base, value = moment.baselines.get(metric), moment.values.get(metric)
    found: dict[str, Any] = {"value": value, "values": 0, "warming_up": ""}
    if base is None:
        return found
    found |= {"mean": base.mean, "level": base.level, "noise": base.noise, "values": base.admitted}
    if value is not None:
        found["score"] = base.score(value)
    if not base.mature:
        found["warming_up"] = f"{base.admitted} of {MATURE} values" if base.admitted else "no values yet"
    return found


def _explanation(note: _Note, judge: Judge, outputs: Iterable[Output]) -> Explanation:
    moment, rule, record = note.moment, note.rule, note.moment.record
    verdict = note.verdict if isinstance(note.verdict, Verdict) else None
    finding = next(
        (
            f
            for f in outputs
            if isinstance(f, Finding) and f.rank == record.rank and verdict and (f.kind, f.metric) == (rule.kind, verdict.metric)
        ),
        None,
    )
    said: Said = "silent"
    if note.error or (note.verdict is not None and finding is None and verdict is None):
        said = "failed"
    elif verdict is not None:
        said = "fired" if finding else "held"
    elif note.unguarded is not None:
        said = "guarded"
    told = verdict or note.unguarded
    figures = dict(note.figures)
    if figures["value"] is None and verdict is not None:
        figures["value"] = verdict.value
    if verdict is not None and verdict.score is not None:
        figures["score"] = verdict.score
    return Explanation(
        run=judge.run, source=record.source, rank=record.rank, attempt=moment.attempt, record=record.index, step=moment.step,
        time=record.time if record.time is not None else record.seen, line=record.kind, rule=rule.kind,
        metric=note.metric or (verdict.metric if verdict else ""), value=figures["value"], mean=_known(figures.get("mean")),
        level=_known(figures.get("level")), noise=_known(figures.get("noise")), score=_known(figures.get("score")),
        values=figures["values"], warming_up=figures["warming_up"], threshold=_known(note.threshold),
        compares=note.compares, speaks_from=_known(note.speaks_from), said=said, gate=_gate(note, judge, outputs),
        reason=finding.reason if finding else "", message=note.error or (str(told.message) if told else ""),
    )  # fmt: skip


def _gate(note: _Note, judge: Judge, outputs: Iterable[Output]) -> str:
    if not note.rule.snapshot:
        return "keeps none"
    for output in outputs:
        if isinstance(output, Decision) and note.rule.kind in output.kinds and output.rank == note.moment.record.rank:
            return f"closed: {output.gated}" if output.gated else "open: snapshot here"
    if note.rule.severity == "critical":
        return "open (critical)"
    need, unit = gate_width(judge.by, judge.total, note.moment.settings)
    shut = judge.gates.closed(note.rule.kind, judge.step, judge.records, need, unit)
    return f"closed: {shut}" if shut else "open"


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def explanation_json(found: Explanation) -> dict[str, Any]:
    """The explanation as an event, field by field."""
    body = {name: getattr(found, name) for name in Explanation.__slots__}
    return {"event": "explanation", "schema": SCHEMA} | body | {"time": iso(found.time), "meaning": MEANING[found.said]}


# -- for people ---------------------------------------------------------------------------------------

HEADINGS = ("rule", "metric", "value", "mean", "level", "noise", "score", "threshold", "speaks from", "verdict", "gate")
RIGHT = HEADINGS[2:9]


def text(seen: Seen) -> Iterator[str]:
    """The lines that tell people what was seen."""
    record = seen.record
    rank = f", rank {record.rank}" if record.rank else ""
    step = seen.explanations[0].step if seen.explanations else record.step
    where = f"{record.by} {step}" if step is not None else f"row {record.index}"
    yield f"{where}: {record.kind} {record.index} of {record.run}, attempt {seen.attempt}{rank}"
    loudness = ("failed", "fired", "held", "guarded", "silent")
    ordered = sorted(seen.explanations, key=lambda e: loudness.index(e.said))
    rows = [_row(e) for e in ordered if e.metric or e.said != "silent"]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in (HEADINGS, *rows):
        cells = (c.rjust(w) if h in RIGHT else c.ljust(w) for h, c, w in zip(HEADINGS, row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()
    for e in ordered:
        if e.said != "silent":
            yield (
                f"  {e.rule}: {MEANING[e.said]}"
                + (f" ({e.reason})" if e.reason else "")
                + (f": {e.message}" if e.message else "")
            )
        if e.compares:
            yield f"  {e.rule} compares: {e.compares}"
    calm = [e.rule for e in ordered if not e.metric and e.said == "silent"]
    if calm:
        yield "  silent, asked of the record as a whole: " + ", ".join(calm)
    young = {e.metric: e.warming_up for e in ordered if e.warming_up}
    if young:
        yield "  warming up: " + ", ".join(f"{m} ({w})" for m, w in young.items())
    if seen.not_asked:
        yield "  not asked, for the record carries none of their metrics: " + ", ".join(
            f"{rule} ({', '.join(metrics)})" for rule, metrics in seen.not_asked.items()
        )


def _row(e: Explanation) -> tuple[str, ...]:
    noise = "-" if e.noise is None else f"{e.noise:.1%}"
    score = "-" if e.score is None else f"{e.score:.1f}"
    numbers = [_shown(e.value), _shown(e.mean), _shown(e.level), noise, score, _shown(e.threshold), _shown(e.speaks_from)]
    return (e.rule, e.metric or "-", *numbers, e.said, e.gate)


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"
