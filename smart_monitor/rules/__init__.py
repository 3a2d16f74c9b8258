"""Rules: one file each, a thin predicate over shared baselines; the file's name is the rule's kind.

A rule answers one question about one record: is my condition true *now*? It neither remembers that
it was true before nor decides who is told: the engine turns the first true answer into a finding and
the following ones into the life of an incident. What little a rule must remember is plain JSON in
`memory`, bounded, and gone with the attempt.

The docstring of a rule is its documentation (`smart-monitor rules NAME`, the README row). Its
headings are fixed: What it watches, Why it matters, Formula, Judges from, What to do.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from smart_monitor.config import Settings
from smart_monitor.model import Finding, Record, Severity
from smart_monitor.stats.baseline import Baseline
from smart_monitor.stats.crew import Crew

RESTART, FAILURE, PEER = "restart", "failure", "peer"
"""What a rule may listen to besides kinds of journal line: a new attempt that begins, a rule that failed, a record of
any of several ranks (once a round; heard by the rule's instance of rank 0)."""
ELSEWHERE = "_elsewhere"
"""Behind the name of a host figure, in a tick: this monitor tells of it in another run already, so here it only informs."""
ANY = (-math.inf, math.inf)
NOBODY = Crew()
_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule answers when its condition is true: the numbers that fired, and words for them."""

    message: str
    advice: str
    metric: str = ""
    value: float | None = None
    baseline: float | None = None
    threshold: float | None = None
    score: float | None = None
    number: str = ""
    """The figure in the reason, as in `loss_spike_37.8pct`; empty: the bare kind."""
    strategy: str = ""
    severity: Severity | None = None
    """Where it differs from the rule's own. A condition told before that turns critical escalates its incident."""
    onset_record: int | None = None
    onset_step: int | None = None
    anew: bool = False
    """Something else broke: a finding, though the condition was true before."""
    rank: int | None = None
    """The rank it is about, if not the one that was asked."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Moment:
    """One record as the rules see it, beside what is known of the run so far.

    `values` are judged values: accuracy in points of 0-100, a loss of exactly 0.0 that nobody vouches
    for taken out (`zero_loss` says so). `step` is filled in where the record gives none.
    """

    __slots__ = (
        "aside", "attempt", "baselines", "before", "crew", "evaluation", "failures", "finite", "fired", "history", "previous",
        "record", "restarted", "settings", "step", "values", "worse", "zero_loss",
    )  # fmt: skip

    def __init__(
        self,
        record: Record,
        settings: Settings,
        values: dict[str, float],
        baselines: dict[str, Baseline],
        step: int | None,
        attempt: int,
        history: Sequence[tuple[int, int | None]],
        previous: Mapping[str, float] = _NOTHING,
        crew: Crew = NOBODY,
        restarted: str = "",
        zero_loss: bool = False,
        finite: bool = True,
    ) -> None:
        self.record = record
        self.settings = settings
        self.values = values
        self.baselines = baselines
        self.step = step
        self.attempt = attempt
        self.history = history
        """(record, step) of the last loss-window of records that carried a loss."""
        self.previous = previous
        """The judged values of the record before, in the same attempt."""
        self.crew = crew
        """The ranks beside one another; for lines that are no record of this rank."""
        self.restarted = restarted
        """Why a new attempt opened with this record; empty if none did."""
        self.before: Mapping[str, float] = _NOTHING
        """The levels that the attempt before has left, where a new one opened with this record."""
        self.evaluation = False
        """The row reports an evaluation (an eval_ metric that changed)."""
        self.zero_loss = zero_loss
        self.finite = finite
        """Is every value a finite number?"""
        self.aside: list[str] = []
        """Metrics whose values are kept out of the baselines."""
        self.fired: list[str] = []
        """Kinds whose condition is true of this record."""
        self.worse: dict[str, str] | None = None
        """Kind -> why what was told before as a warning is critical now."""
        self.failures: list[tuple[str, str]] = []
        """(rule, error) of rules that failed on this record."""

    @property
    def where(self) -> str:
        """`step 17500`, `epoch 3` or `row 12`, for messages."""
        by = self.record.by
        return f"{by} {self.record.index if self.step is None else self.step}"


class Rule:
    """What every rule owes. Class attributes are its policy; `rules` prints them."""

    kind: ClassVar[str]
    """The name of the file; set by the registry."""
    severity: ClassVar[Severity] = "warning"
    snapshot: ClassVar[bool] = False
    """Is a checkpoint kept when it fires?"""
    family: ClassVar[str] = ""
    """Findings of one family in one rank belong to one incident; empty: no incident (info)."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Asked once for each of these that a record carries; empty: see `listens`."""
    listens: ClassVar[tuple[str, ...]] = ()
    """Kinds of journal line it is asked about besides (record, tick, state, outcome; RESTART, FAILURE), metric ''."""
    ended_by: ClassVar[tuple[str, ...]] = ()
    """Kinds of journal line that end its condition without its being asked."""
    every: ClassVar[int] = 1
    """It judges blocks: it is asked about every so many finite values of a metric (`Baseline.lately` gives the others)."""
    baselined: ClassVar[bool] = True
    """Does it judge its metrics against their baselines?"""
    sets_aside: ClassVar[bool] = False
    """Is the value it fires on kept out of the baseline?"""
    rearm: ClassVar[int] = 1
    """Askings to which it must have answered no before it can fire anew; 0: every yes is told."""
    survives: ClassVar[bool] = False
    """Does its memory outlive the attempt?"""
    of_the_run: ClassVar[bool] = False
    """Is it about the run as a whole, and not about the rank that is asked?"""

    def __init__(self) -> None:
        self.memory: dict[str, Any] = {}

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        """Between which values it need not be asked, if they are calm by their baseline too; None: it is always asked.

        A promise: the condition is false of them. It is asked about the first of them after any other, to forget
        what it has to, and as long as an episode of its own lasts. A million calm records are why there is such a
        promise: most rules are kept by it from most of them.
        """
        return None

    def keeps(self, finding: Finding) -> bool:
        """Is a checkpoint kept for this finding of it?"""
        return self.snapshot

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        """The verdict if the rule's condition is true of this record, else None."""
        raise NotImplementedError

    def compares(self, moment: Moment, metric: str) -> tuple[float, str] | None:
        """(threshold, sentence): what it holds against what at this record, for `replay --explain`; None: its verdict says it.

        For a rule that looks back so far that often no value of the one record would make it speak. Asked before the
        record is judged, and never while a run is watched.
        """
        return None


def percent(value: float) -> str:
    """One decimal, or three significant digits where that would be absurdly long; always a number."""
    return f"{value:.1f}" if abs(value) < 1e6 else f"{max(min(value, sys.float_info.max), -sys.float_info.max):.3g}"
