"""Recorded real trainings, replayed: planted faults that can be seen are named, sound runs with oddities are left alone.

The logs and their truth are written by scripts/zoo and never edited; what the rules of today get wrong is marked below, with why.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from scripts.zoo_runs.cases import plan
from scripts.zoo_runs.scoring import Score, judge, rows_of, sound
from scripts.zoo_runs.visible import HARD_BATCH, stands_still, unforeseen
from smart_monitor.config import Settings
from smart_monitor.model import Finding
from smart_monitor.replay import replay

ZOO = Path(__file__).parent / "zoo"
TRUTH: dict[str, list[dict[str, Any]]] = json.loads((ZOO / "truth.json").read_text(encoding="utf-8"))
WRONG: dict[str, str] = {}
"""Case -> what the rules of today get wrong there. A case that comes right must be taken off: the marks are strict."""
FAULTS = [name for name, events in TRUTH.items() if any(e["visible"] for e in events)]
SOUND = [name for name, events in TRUTH.items() if sound(events)]


def cases(names: list[str]) -> list[Any]:
    return [pytest.param(n, marks=pytest.mark.xfail(reason=WRONG[n], strict=True)) if n in WRONG else n for n in names]


def scored(name: str, directory: Path) -> Score:
    rows = rows_of(ZOO / f"{name}.jsonl.gz")
    log = directory / f"{name}.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = [o for _, outputs in replay(log, Settings()) for o in outputs if isinstance(o, Finding)]
    return judge(name, TRUTH[name], len(rows), [(f.record, f.kind, f.severity) for f in found])


@pytest.mark.parametrize("name", cases(FAULTS))
def test_a_planted_fault_that_can_be_seen_is_named(name: str, tmp_path: Path):
    assert scored(name, tmp_path).outcome == "named"


@pytest.mark.parametrize("name", cases(SOUND))
def test_a_sound_run_with_an_oddity_raises_no_alarm(name: str, tmp_path: Path):
    assert scored(name, tmp_path).alarms == []


def test_every_mark_is_of_a_recorded_case():
    assert set(WRONG) - set(TRUTH) == set()


def test_the_full_zoo_plans_at_least_as_many_sound_runs_as_faulty_ones():
    planned = plan(1)

    assert sum(c.fault is None for c in planned) >= sum(c.fault is not None for c in planned)


def test_the_recorded_zoo_is_small():
    assert sum(p.stat().st_size for p in ZOO.iterdir()) < 400_000


def test_every_fault_of_every_seed_leaves_rows_enough_to_be_judged():
    late = [c.id for c in plan(100) if c.fault is not None and c.fault.at > c.steps - 200]

    assert late == []


def test_seeds_go_on_where_those_looked_at_end():
    assert [c.id for c in plan(1, 1)] == [c.id for c in plan(2)][len(plan(1)) :]


def noisy(level: float, noise: float, rows: int, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [level * chance.gauss(1, noise) for _ in range(rows)]


def losses(values: list[float]) -> list[dict[str, Any]]:
    return [{"loss": v} for v in values]


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_seen_by_all_its_rows_and_not_by_the_luck_of_its_noise(seed: int):
    fall = [2 - i / 300 for i in range(300)]
    still, falling = noisy(1, 0.08, 600, seed), [v * (1 - i / 5000) for i, v in enumerate(noisy(1, 0.08, 600, seed))]

    assert stands_still(losses(fall + still), 300)
    assert not stands_still(losses(fall + falling), 300)
    assert not stands_still(losses(fall + noisy(1, 0.3, 300, seed)), 300)


def test_hard_batches_are_unforeseen_until_two_like_them_have_been_seen():
    values = noisy(1, 0.03, 600, 0)
    for row, loss in ((100, 1.5), (200, 1.25), (250, 1.5), (300, 1.5), (400, 2.8)):
        values[row] = loss

    assert unforeseen(losses(values), [100, 200, 250, 300, 400]) == [100, 250, 400]


def test_a_spike_told_at_an_unforeseen_hard_batch_is_excused_and_nothing_else():
    event = {"kind": HARD_BATCH, "i_start": 100, "i_end": 100, "visible": False, "expect": ["loss_spike"]}
    told = [
        (100, "loss_spike", "warning"),
        (100, "accuracy_drop", "warning"),
        (100, "loss_spike", "critical"),
        (101, "loss_spike", "warning"),
    ]

    one = judge("clean", [event], 600, told)

    assert (one.outcome, one.excused, one.alarms, one.wrong) == ("clean", told[:1], told[1:], True)
    assert not judge("clean", [event], 600, told[:1]).wrong
