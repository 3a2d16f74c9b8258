"""Rules are found by themselves, documented by themselves, and a plug-in that is broken breaks nothing."""

from __future__ import annotations

import json
import math
from importlib.metadata import EntryPoint

import pytest

from smart_monitor.config import Settings
from smart_monitor.engine import Engine
from smart_monitor.model import Finding, Record, finding_json, to_json
from smart_monitor.registry import GROUP, documentation, plug_ins, rule_classes, summary
from smart_monitor.rules import Moment, Rule, Verdict

HEADINGS = ("What it watches:", "Why it matters:", "Formula:", "Judges from:", "What to do:")


class Good(Rule):
    """A plug-in that works."""

    metrics = ("loss",)
    listens = ("record",)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        nan = math.nan
        return Verdict(
            "m", "a", metric="loss", value=1, threshold=nan, baseline=nan, score=math.inf, evidence={"x": {1, 2}, "y": nan}
        )


class Raises(Good):
    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        raise KeyError("gone")


class Mumbles(Good):
    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        return True  # type: ignore[return-value]


class WrongWord(Good):
    severity = "fatal"  # type: ignore[assignment]


class CannotBegin(Good):
    def __init__(self) -> None:
        raise OSError("no such model")


class RemembersOddly(Good):
    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        self.memory["seen"] = {1}
        return None


def point(name: str, cls: str) -> EntryPoint:
    return EntryPoint(name, f"tests.rules.test_registry:{cls}", GROUP)


def told(classes: dict[str, type[Rule]]) -> list[Finding]:
    engine = Engine("run", Settings(), rule_classes() | classes)
    found = []
    for n in range(40):
        found += [
            o
            for o in engine.feed(Record("run", "log", n, step=n, values={"loss": 1.0 if n != 35 else 9.0}))
            if isinstance(o, Finding)
        ]
        json.loads(json.dumps(engine.state()))
    return found


@pytest.mark.parametrize("kind", sorted(rule_classes()))
def test_the_docstring_of_a_rule_says_all_that_it_owes(kind: str) -> None:
    text = documentation(kind)
    places = [text.find(heading) for heading in HEADINGS]
    assert -1 not in places and sorted(places) == places
    assert summary(kind).endswith(".")
    assert rule_classes()[kind].kind == kind


def test_a_plug_in_is_found_under_the_name_of_its_entry_point() -> None:
    found = plug_ins([point("mine", "Good"), point("mine_too", "Good"), point("nan", "Good")], rule_classes())
    assert {name: cls.kind for name, cls in found.items()} == {"mine": "mine", "mine_too": "mine_too"}


@pytest.mark.parametrize("value", ["no_such_module_at_all:Rule", "tests.rules.test_registry:Missing", "json:dumps", "math:pi"])
def test_a_plug_in_that_cannot_be_loaded_is_told_and_not_fatal(value: str) -> None:
    found = told(plug_ins([EntryPoint("broken", value, GROUP)]))
    assert [f.reason for f in found] == ["rule_failed_broken", "loss_spike_800.0pct"]
    assert value in found[0].message


@pytest.mark.parametrize("cls", ["Raises", "Mumbles", "WrongWord", "CannotBegin", "RemembersOddly"])
def test_a_plug_in_that_misbehaves_is_told_once_and_takes_no_other_with_it(cls: str) -> None:
    found = told(plug_ins([point("mine", cls)]))
    assert [f.reason for f in found] == ["rule_failed_mine", "loss_spike_800.0pct"]


def test_what_a_plug_in_gives_as_numbers_is_strict_json() -> None:
    mine = next(f for f in told(plug_ins([point("mine", "Good")])) if f.kind == "mine")
    assert (mine.value, mine.threshold, mine.baseline, mine.score) == (1.0, None, None, None)
    text = to_json(finding_json(mine))
    assert json.loads(text, parse_constant=pytest.fail)["evidence"]["y"] == "NaN"
