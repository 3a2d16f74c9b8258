"""Reads and plays stories: small texts in which what the engine must say stands on the line that makes it.

    # why this story exists
    use noise_guard=false          settings
    0..29   loss=0.74~1%           steps 0 to 29; ~1% is Gaussian noise, the same on every machine
    30      loss=1.02              -> loss_spike warning loss_spike_37.8pct snapshot
    31..40  loss=0.74              -> incident resolved @35
    tick +400s blind=31            a tick, 400 s after the line before; alive, dead, finished, unknown: the process
    state crashed out of memory    the trainer's word and its note
    outcome failed                 how the last snapshot went

Values: numbers, NaN, inf, null. Beside metrics: epoch=, total=, pid=, by=, source=, rank=, ranks=0,1,2 (each step once for each
of them), norow (a row without step), historical. A run of values `loss=0.8,0.9` goes over the lines in turn; `loss=1>2` runs
evenly from 1 to 2. A record every second, unless `every 60s` says otherwise. `break RULE` makes a rule raise whenever it is
asked, and `near RULE` says that the story comes close to what a rule fires on, and it must not.

After `->` stand, separated by `;`, all the things that happen on the lines it belongs to and no others:
`KIND SEVERITY REASON [snapshot] [gated]` (a finding and what becomes of it), `snapshot REASON`, `gated REASON`,
`incident STATE`. `@17` says on which step of the range. A line without `->` expects no finding and no snapshot;
`-> nothing` also no turn of an incident. Turns that are not named are not asked about, except on such lines.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings, resolve
from smart_monitor.engine import Engine
from smart_monitor.model import OUTCOME, STATE, TICK, Decision, Finding, IncidentEvent, Output, Record
from smart_monitor.registry import rule_classes
from smart_monitor.rules import Moment, Rule, Verdict

FACTS = ("epoch", "total", "pid", "by", "source", "rank", "ranks")

PROCESS = ("pid", "started", "doing", "ended")
STATES = ("alive", "dead", "finished", "unknown")


@dataclass
class Line:
    """One line of a story: the records it stands for and what is expected of them."""

    number: int
    text: str
    records: list[Record]
    expected: list[str]
    silent: bool = False


@dataclass
class Story:
    name: str
    why: str = ""
    settings: Settings = field(default_factory=Settings)
    broken: tuple[str, ...] = ()
    near: set[str] = field(default_factory=set)
    lines: list[Line] = field(default_factory=list)


class _Teller:
    """Turns the lines of a story into records: the clock, the row number, the noise."""

    def __init__(self, name: str) -> None:
        self.noise = random.Random(name)
        self.now, self.every, self.rows = 1_700_000_000.0, 1.0, 0

    def records(self, words: list[str]) -> list[Record]:
        if words[0] == "tick":
            self.now += float(words[1].strip("+s"))
            pairs = dict(w.split("=") for w in words[2:] if "=" in w)
            ids = {k: pairs.pop(k) for k in PROCESS if k in pairs}
            values = {k: float(v) for k, v in pairs.items()}
            state = next((w for w in words[2:] if w in STATES), "")
            note = " ".join(w for w in words[2:] if "=" not in w and w != state)
            at = max(0, self.rows - 1)
            return [Record("story", "host", at, seen=self.now, values=values, kind=TICK, note=note, state=state, ids=ids)]
        if words[0] == "state":
            return [self._other(STATE, "status", words[1], " ".join(words[2:]))]
        first, _, last = words[0].partition("..")
        steps: list[int | None] = [None] if first == "norow" else list(range(int(first), int(last or first) + 1))
        several = next((word[6:] for word in words if word.startswith("ranks=")), "")
        if not several:
            return [self._record(step, n, len(steps), words[1:]) for n, step in enumerate(steps)]
        found = []
        for n, step in enumerate(steps):
            self.now += self.every
            for rank in several.split(","):
                self.now -= self.every
                found.append(self._record(step, n, len(steps), [*words[1:], f"rank={rank}"]))
        return found

    def _other(self, kind: str, source: str, state: str, note: str, **more: Any) -> Record:
        return Record("story", source, max(0, self.rows - 1), seen=self.now, kind=kind, state=state, note=note, **more)

    def _record(self, step: int | None, n: int, of: int, words: list[str]) -> Record:
        self.now += self.every
        values, nulls, facts = {}, [], {"by": "step", "source": "status"}
        for word in words:
            name, _, text = word.partition("=")
            if name in FACTS:
                facts[name] = text
            elif text == "null":
                nulls.append(name)
            elif name != "historical":
                values[name] = self._value(text, n, of)
        self.rows += 1
        return Record(
            "story", facts["source"], self.rows - 1, step, facts["by"], float(facts["epoch"]) if "epoch" in facts else None,
            None, self.now, values, int(facts.get("rank", 0)), int(facts["total"]) if "total" in facts else None, tuple(nulls),
            {"pid": facts["pid"]} if "pid" in facts else {}, historical="historical" in words,
        )  # fmt: skip

    def _value(self, text: str, n: int, of: int) -> float:
        text, _, noise = text.partition("~")
        if "," in text:
            value = float(text.split(",")[n % (text.count(",") + 1)])
        elif ">" in text:
            low, high = map(float, text.split(">"))
            value = low + (high - low) * n / max(of - 1, 1)
        else:
            value = float(text)
        return value * self.noise.gauss(1, float(noise.rstrip("%")) / 100) if noise else value


def read(path: Path) -> Story:
    story, teller, settings = Story(path.stem), _Teller(path.stem), {}
    for number, text in enumerate(path.read_text().splitlines(), 1):
        line, _, expectation = text.partition("->")
        words = line.split()
        if not words:
            continue
        if words[0].startswith("#"):
            story.why += line.strip("# ")
        elif words[0] == "use":
            settings |= dict(w.split("=", 1) for w in words[1:])
        elif words[0] == "near":
            story.near |= set(words[1:])
        elif words[0] == "break":
            story.broken += tuple(words[1:])
        elif words[0] == "every":
            teller.every = float(words[1].rstrip("s"))
        elif words[0] == "outcome":
            story.lines.append(Line(number, text, [teller._other(OUTCOME, "store", words[1], "disk full")], _items(expectation)))
        else:
            expected = _items(expectation)
            story.lines.append(
                Line(number, text, teller.records(words), [e for e in expected if e != "nothing"], "nothing" in expected)
            )
    story.settings, _ = resolve([("story", settings)])
    return story


class _Broken(Rule):
    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        raise ZeroDivisionError("broken on purpose")


def _engine(story: Story) -> Engine:
    rules = dict(rule_classes())
    for kind in story.broken:
        rules[kind] = type("Broken", (_Broken,), {"kind": kind, "metrics": rules[kind].metrics, "listens": rules[kind].listens})
    return Engine("story", story.settings, rules)


def _items(expectation: str) -> list[str]:
    return [" ".join(item.split()) for item in expectation.split(";") if item.strip()]


def play(story: Story, *, cut_every: int = 0) -> list[list[tuple[Record, list[Output]]]]:
    """What the engine says to each line's records.

    With `cut_every` its state goes through JSON after every so many records, and wherever it said something.
    """
    engine = _engine(story)
    decision, told, count = "", [], 0
    for line in story.lines:
        said = []
        for record in line.records:
            if record.kind == OUTCOME:
                record = record._replace(ids={"decision": decision})
            outputs = engine.feed(record)
            decision = next((o.id for o in outputs if isinstance(o, Decision) and not o.gated), decision)
            said.append((record, outputs))
            count += 1
            if cut_every and (outputs or count % cut_every == 0):
                state = json.loads(json.dumps(engine.state()))
                engine = _engine(story)
                engine.restore(state)
        told.append(said)
    return told


def check(line: Line, said: list[tuple[Record, list[Output]]]) -> None:
    """AssertionError if what was said is not exactly what the line expects."""
    happened = list(_happened(said))
    found = [(what, step) for what, step in happened if line.silent or not what.startswith("incident ")]
    turns = [(what, step) for what, step in happened if what.startswith("incident ")]
    for item in line.expected:
        what, _, where = item.partition(" @")
        pool = turns if what.startswith("incident ") else found
        match = next(((w, s) for w, s in pool if w == what and (not where or str(s) == where)), None)
        assert match is not None, f"line {line.number}: {line.text}\n  missing: {item}\n  happened: {happened}"
        pool.remove(match)
    assert not found, f"line {line.number}: {line.text}\n  not expected: {found}"


def _happened(said: list[tuple[Record, list[Output]]]) -> Iterator[tuple[str, int | None]]:
    """A finding with the snapshot it is part of on one line, other snapshots and turns on their own."""
    for record, outputs in said:
        fresh = [o for o in outputs if isinstance(o, Finding)]
        for output in outputs:
            if isinstance(output, IncidentEvent):
                yield f"incident {output.state}", record.step
            elif isinstance(output, Finding):
                kept = [d for d in outputs if isinstance(d, Decision) and output in d.findings]
                fate = "".join(" gated" if d.gated else " snapshot" for d in kept)
                yield f"{output.kind} {output.severity} {output.reason}{fate}", record.step
            elif not any(f in fresh for f in output.findings):
                newer = " if newer" if output.only_if_newer else ""
                yield f"{'gated' if output.gated else 'snapshot'} {output.reason}{newer}", record.step


def kinds_that_fire(story: Story) -> set[str]:
    """The kinds of the findings that a story expects."""
    return {item.split()[0] for line in story.lines for item in line.expected if re.search(r" (info|warning|critical) ", item)}


def plain(said: list[list[tuple[Record, list[Output]]]]) -> str:
    """All that was said, exactly, for comparing two tellings."""
    return repr([[outputs for _, outputs in line] for line in said])
