"""Tuning: which thresholds would have served the user's own past runs, measured and not guessed.

Each run is judged as it is (what would have been told), and once more with trouble put into it at seeded
places away from every alarm (what would have been found, and how soon). Only the rules that the settings
move are asked: loss_spike, divergence, accuracy_drop. Pure; the same runs give the same answer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import TypeVar

from smart_monitor.config import PRESETS, Settings
from smart_monitor.engine import Engine
from smart_monitor.model import RECORD, Finding, Record
from smart_monitor.registry import rule_classes

LOSS_RULES, ACCURACY_RULES = ("loss_spike", "divergence"), ("accuracy_drop",)
ACCURACIES = ("accuracy", "eval_accuracy")
CAP = 20_000
"""Records of a run that are read at most, from its beginning: they are held in memory."""
SPIKES = (0.1, 0.2, 0.3, 0.4, 0.5)
DROPS = (5.0, 8.0, 10.0, 15.0, 20.0)
WINDOWS = (6, 10, 20)
SIZES = (1.3, 1.6, 2.0, 2.5, 3.0)
LENGTHS = (1, 5)
POINTS = (12.0, 14.0, 16.0, 18.0, 20.0)
CLEAR = 2.0
"""Bursts from this size on are counted apart: whoever misses them has missed something."""
WARM_UP, APART, AWAY = 40, 45, 30
"""Records before the first place, between two places, and from a place to the nearest alarm."""
MOST_PLACES = 60
LATE = 3
"""Records after the end of a burst until which an alarm still counts as its."""
BUDGET = 1.0
"""Alarms per 1 000 records that a suggestion may cost, or the fewest there are."""
EQUAL, FEW, HALF = 0.02, 2, 0.5
SPIKE, DROP, WINDOW = 0.3, 10.0, 10
"""The default."""
FRACTION = 1.5
K = TypeVar("K", int, float)


@dataclass(frozen=True, slots=True)
class Run:
    """One past run as read: its records, and whether more were there."""

    name: str
    records: tuple[Record, ...]
    cut: bool = False


def take(name: str, records: Iterable[Record], cap: int = CAP) -> Run:
    """The first `cap` records (ticks and states left out)."""
    kept = tuple(islice((r for r in records if r.kind == RECORD), cap + 1))
    return Run(name, kept[:cap], len(kept) > cap)


@dataclass(frozen=True, slots=True)
class Burst:
    """Trouble put into a run: `size` is a factor for a loss, points of 0-100 for an accuracy."""

    metric: str
    start: int
    """Position in the run's records."""
    length: int
    size: float
    rows: tuple[int, ...]
    """Positions of the records changed: those from `start` on that carry the metric."""


@dataclass(slots=True)
class Score:
    """What a choice of settings did on all runs, for the loss or for the accuracy."""

    records: int = 0
    alarms: int = 0
    injected: int = 0
    found: int = 0
    clear: int = 0
    clear_found: int = 0
    delays: list[int] = field(default_factory=list)

    @property
    def per_1000(self) -> float:
        return 1000 * self.alarms / self.records if self.records else 0.0

    @property
    def recall(self) -> float | None:
        return self.found / self.injected if self.injected else None

    @property
    def clear_recall(self) -> float | None:
        return self.clear_found / self.clear if self.clear else None

    @property
    def delay(self) -> float | None:
        """Median, in records from the first changed one to the alarm; None where nothing was found."""
        return median(self.delays) if self.delays else None

    def tally(self, burst: Burst, alarms: Sequence[int], records: Sequence[Record]) -> None:
        """Count a burst: was there an alarm from its beginning to shortly after its end?"""
        end = records[burst.rows[-1]].index + LATE
        start = records[burst.rows[0]].index
        hit = next((a for a in alarms if start <= a <= end), None)
        clear = burst.size >= CLEAR
        self.injected += 1
        self.clear += clear
        if hit is not None:
            self.found += 1
            self.clear_found += clear
            self.delays.append(hit - start)


@dataclass(frozen=True, slots=True)
class Choice:
    """One point of the grid. The loss and the accuracy do not touch each other: they are scored apart."""

    window: int
    spike: float
    drop: float
    guard: bool = True

    def settings(self) -> Settings:
        return Settings(
            loss_spike_threshold=self.spike, accuracy_drop_threshold=self.drop, loss_window=self.window, noise_guard=self.guard
        )


@dataclass(slots=True)
class Result:
    """Everything measured."""

    records: int
    places: int
    accuracy_places: int
    loss: dict[tuple[int, float, bool], Score]
    """(loss_window, loss_spike_threshold, noise_guard) -> score of the loss rules."""
    accuracy: dict[tuple[int, float, bool], Score]
    """(loss_window, accuracy_drop_threshold, noise_guard) -> score of accuracy_drop."""


def grid() -> list[Choice]:
    """The passes to make: every window with every threshold once, and the three presets without the guard."""
    presets = [Choice(10, p["loss_spike_threshold"], p["accuracy_drop_threshold"], guard=False) for p in PRESETS.values()]
    return [Choice(w, s, d) for w in WINDOWS for s, d in zip(SPIKES, DROPS, strict=True)] + presets


def passes(runs: Sequence[Run]) -> int:
    """How many records `tune` judges, for a progress bar."""
    return 2 * len(grid()) * sum(len(r.records) for r in runs)


def tune(runs: Sequence[Run], tick: Callable[[int], object] = int) -> Result:
    """Judge every run under every choice, as it is and with bursts. `tick` is told how many records were judged."""
    result = Result(sum(len(r.records) for r in runs), 0, 0, {}, {})
    choices = grid()
    for run in runs:
        as_is = []
        for choice in choices:
            as_is.append(_alarms(run.records, choice))
            tick(len(run.records))
        taken = {f.record for choice, found in zip(choices, as_is, strict=True) if choice.guard for f in found}
        bursts = places(run, taken)
        changed = inject(run.records, bursts)
        result.places += sum(b.metric == "loss" for b in bursts)
        result.accuracy_places += sum(b.metric != "loss" for b in bursts)
        for choice, found in zip(choices, as_is, strict=True):
            _count(result, choice, run, found, bursts, _alarms(changed, choice) if bursts else [])
            tick(len(run.records))
    return result


def _alarms(records: Iterable[Record], choice: Choice) -> list[Finding]:
    rules = {kind: cls for kind, cls in rule_classes().items() if kind in LOSS_RULES + ACCURACY_RULES}
    return [f for f in Engine("tune", choice.settings(), rules).replay(records) if f.severity != "info"]


def _count(result: Result, choice: Choice, run: Run, found: list[Finding], bursts: Sequence[Burst], after: list[Finding]) -> None:
    sides = ((result.loss, choice.spike, LOSS_RULES), (result.accuracy, choice.drop, ACCURACY_RULES))
    for scores, threshold, kinds in sides:
        score = scores.setdefault((choice.window, threshold, choice.guard), Score())
        score.records += len(run.records)
        score.alarms += sum(f.kind in kinds for f in found)
        for burst in bursts:
            if (burst.metric == "loss") == (kinds is LOSS_RULES):
                score.tally(burst, [f.record for f in after if f.kind in kinds and f.metric == burst.metric], run.records)


# -- trouble put in ------------------------------------------------------------------------------------


def places(run: Run, alarms: Iterable[int]) -> list[Burst]:
    """Where bursts go: far from one another and from every alarm, sizes and lengths in turn, all from one seed."""
    records, source = run.records, random.Random(f"{run.name} {len(run.records)}")
    known = sorted(alarms)
    found: list[Burst] = []
    for metric in ("loss", *ACCURACIES):
        rows = [n for n, r in enumerate(records) if _usable(r.values.get(metric), metric)]
        sizes = [(size, length) for length in LENGTHS for size in SIZES] if metric == "loss" else [(p, 5) for p in POINTS]
        source.shuffle(sizes)
        at, percent = WARM_UP + source.randrange(10), _percent(records, metric)
        while at + max(LENGTHS) + LATE < len(rows) and sum(b.metric == metric for b in found) < MOST_PLACES:
            size, length = sizes[sum(b.metric == metric for b in found) % len(sizes)]
            chosen = tuple(rows[at : at + length])
            quiet = not _near(known, records[rows[at]].index) and (
                metric == "loss" or min(float(records[n].values[metric]) * percent for n in chosen) > size
            )
            if quiet:
                found.append(Burst(metric, chosen[0], length, size, chosen))
            at += APART + source.randrange(15) if quiet else 5
    return found


def _near(known: Sequence[int], index: int) -> bool:
    return any(abs(index - alarm) < AWAY for alarm in known)


def _usable(value: float | None, metric: str) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or metric != "loss")


def _percent(records: Iterable[Record], metric: str) -> float:
    """What brings an accuracy to 0-100."""
    highest = max((r.values[metric] for r in records if _usable(r.values.get(metric), metric)), default=0.0)
    return 100.0 if highest <= FRACTION else 1.0


def inject(records: Sequence[Record], bursts: Iterable[Burst]) -> list[Record]:
    """The records with the bursts in them; the originals stay as they are."""
    changed = list(records)
    scales = {metric: _percent(records, metric) for metric in ACCURACIES}
    for burst in bursts:
        for n in burst.rows:
            value = changed[n].values[burst.metric]
            new = value * burst.size if burst.metric == "loss" else value - burst.size / scales[burst.metric]
            changed[n] = changed[n]._replace(values={**changed[n].values, burst.metric: new})
    return changed


# -- the suggestion ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The settings that served best, and the scores behind them."""

    choice: Choice
    loss: Score
    accuracy: Score


def suggest(result: Result) -> Suggestion:
    """Of the choices that cost at most BUDGET alarms per 1 000 records (or the fewest), the one that finds most.

    Recalls within 2 points count as equal, and so do alarms that differ by at most 2: then what is nearer to the
    default wins. Where nothing could be measured, or less than half of what the default finds would be found, it stays.
    """
    best = {w: (_best(result.loss, w, SPIKES, SPIKE), _best(result.accuracy, w, DROPS, DROP)) for w in WINDOWS}
    scores = {w: (result.loss[w, s, True], result.accuracy[w, d, True]) for w, (s, d) in best.items()}
    window = _pick(scores, lambda w: abs(w - WINDOW))
    spike, drop = best[window]
    return Suggestion(Choice(window, spike, drop), *scores[window])


def _best(scores: Mapping[tuple[int, float, bool], Score], window: int, thresholds: Sequence[float], default: float) -> float:
    return _pick({t: (scores[window, t, True],) for t in thresholds}, lambda t: abs(t - default))


def _pick(options: Mapping[K, tuple[Score, ...]], far: Callable[[K], float]) -> K:
    if not any(score.injected for scores in options.values() for score in scores):
        return min(options, key=far)
    alarms = {k: sum(s.alarms for s in scores) for k, scores in options.items()}
    records = max(s.records for scores in options.values() for s in scores)
    budget = max(BUDGET * records / 1000, min(alarms.values()))
    recalls = {k: _recall(scores) for k, scores in options.items() if alarms[k] <= budget}
    usual = min(options, key=far)
    if max(recalls.values()) < HALF * _recall(options[usual]):
        return usual  # few alarms are no gain where most of the trouble goes unseen
    good = [k for k, recall in recalls.items() if recall >= max(recalls.values()) - EQUAL]
    fewest = min(alarms[k] for k in good)
    return min((k for k in good if alarms[k] <= fewest + FEW), key=far)


def _recall(scores: Iterable[Score]) -> float:
    known = [s.recall for s in scores if s.recall is not None]
    return sum(known) / len(known) if known else 0.0


def toml(result: Result, suggestion: Suggestion, runs: Sequence[Run]) -> str:
    """The suggestion as a smart_monitor.toml, each value with the measured reason for it."""
    chosen = suggestion.choice
    plain, bare = (
        result.loss[WINDOW, SPIKE, guard].alarms + result.accuracy[WINDOW, DROP, guard].alarms for guard in (True, False)
    )
    window = "The others find no more, or cost more alarms" if chosen.window != WINDOW else "The others were not clearly better"
    span = f"{POINTS[0]:g} to {POINTS[-1]:g} points"
    lines = [
        f"# Suggested by `smart-monitor tune` from {len(runs)} run{'s' * (len(runs) != 1)}, {result.records} records, into which",
        f"# {result.places} loss spikes ({SIZES[0]:g}x to {SIZES[-1]:g}x) and {result.accuracy_places} accuracy drops ({span})",
        "# were put. Slow divergence was not.",
        "",
        *_reason("spikes", suggestion.loss, result.loss[WINDOW, SPIKE, True], (chosen.window, chosen.spike) == (WINDOW, SPIKE)),
        f"loss_spike_threshold = {chosen.spike:g}",
        "",
        *_reason(
            "drops", suggestion.accuracy, result.accuracy[WINDOW, DROP, True], (chosen.window, chosen.drop) == (WINDOW, DROP)
        ),
        f"accuracy_drop_threshold = {chosen.drop:g}",
        "",
        f"# Tried: {', '.join(map(str, WINDOWS))}. {window}.",
        f"loss_window = {chosen.window}",
        "",
        f"# With the default thresholds it makes {plain} alarms of {bare} on these {result.records} records.",
        "noise_guard = true",
        "",
    ]
    return "\n".join(lines)


def _reason(what: str, score: Score, default: Score, same: bool) -> list[str]:
    if not score.injected:
        return ["# Nothing could be measured here (too few calm records with this metric): the default."]
    lines = [f"# {_words(what, score)}."]
    return lines if same else [*lines, f"# The default {_words(what, default).replace('Finds', 'finds')}."]


def _words(what: str, score: Score) -> str:
    clear = (
        f" (of those {CLEAR:g}x and more {score.clear_recall:.0%})" if what == "spikes" and score.clear_recall is not None else ""
    )
    delay = "" if score.delay is None else f", median delay {score.delay:g} records"
    found = f"Finds {score.found} of {score.injected} {what}{clear}{delay}"
    return f"{found}; {score.alarms} alarms on the runs as they are, {score.per_1000:.2f} per 1000 records"
