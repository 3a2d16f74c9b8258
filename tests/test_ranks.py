"""Several ranks of one run: judged each for itself and together, however their lines arrive and wherever the fold is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.config import resolve
from smart_monitor.engine import Engine
from smart_monitor.model import STATE, TICK, Decision, Finding, IncidentEvent, Output, Record
from smart_monitor.registry import rule_classes
from smart_monitor.replay import replay
from smart_monitor.stats.crew import words

MOST_A_RANK = 24 << 10
SETTINGS, _ = resolve([])


def engine() -> Engine:
    return Engine("r", SETTINGS, rule_classes())


def record(index: int, step: int, rank: int, loss: float = 0.7, seen: float | None = None, **ids: str) -> Record:
    return Record("r", f"rank_{rank}", index, step, values={"loss": loss}, rank=rank, seen=seen, ids=ids)


def train(judging: Engine, ranks: Sequence[int], steps: range, loss: float = 0.7, start: int = 0) -> list[Output]:
    """Every step of every rank, a second each."""
    said: list[Output] = []
    for at, step in enumerate(steps):
        for rank in ranks:
            said += judging.feed(record(start + at * len(ranks) + rank, step, rank, loss, 1e9 + step))
    return said


BURST = st.tuples(
    st.integers(0, 4),
    st.integers(1, 12),
    st.sampled_from([0.7, 0.7, 0.7, 5.0, float("nan"), 0.1]),
    st.sampled_from([0.0, 1.0, 20.0]),
)
"""(rank, records, loss, seconds passed before it)."""


def bursts(found: Sequence[tuple[int, int, float, float]], restarts: set[int]) -> list[Record]:
    """Lines of several ranks as they are read: a burst of one rank after a burst of another, ticks between."""
    steps, seen, lines, pid = dict.fromkeys(range(5), 0), 1e9, [], 1
    for number, (rank, count, loss, seconds) in enumerate(found):
        seen += seconds
        if number in restarts:
            pid += 1
            steps = dict.fromkeys(range(5), min(steps.values()))
        for _ in range(count):
            steps[rank] += 1
            lines.append(record(len(lines), steps[rank], rank, loss, seen, pid=str(pid)))
        lines.append(Record("r", "host", len(lines), seen=seen, kind=TICK, values={}))
    return lines


@settings(max_examples=30, deadline=None)
@given(st.lists(BURST, min_size=5, max_size=40), st.sets(st.integers(0, 40), max_size=2), st.data())
def test_the_fold_of_several_ranks_is_the_same_cut_anywhere(
    found: list[tuple[int, int, float, float]], restarts: set[int], data: st.DataObject
) -> None:
    lines = bursts(found, restarts)
    cuts = data.draw(st.sets(st.integers(0, len(lines)), max_size=6))
    whole, broken = engine(), engine()
    for number, line in enumerate(lines):
        if number in cuts:
            state = json.loads(json.dumps(broken.state()))
            broken = engine()
            broken.restore(state)
        assert repr(whole.feed(line)) == repr(broken.feed(line))
    assert json.dumps(whole.state(), sort_keys=True) == json.dumps(broken.state(), sort_keys=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(BURST, min_size=5, max_size=60), st.sets(st.integers(0, 60), max_size=2))
def test_incidents_of_several_ranks_open_before_they_close_and_never_share_a_number(
    found: list[tuple[int, int, float, float]], restarts: set[int]
) -> None:
    judging = engine()
    told: dict[str, list[IncidentEvent]] = {}
    for line in bursts(found, restarts):
        for output in judging.feed(line):
            assert not (isinstance(output, Finding) and output.kind == "rule_failed"), output
            if isinstance(output, IncidentEvent):
                told.setdefault(output.id, []).append(output)
    for turns in told.values():
        assert "opened" == turns[0].state
        assert [t.seq for t in turns] == list(range(len(turns)))
    assert {i["id"] for i in judging.incidents} == {i for i, turns in told.items() if turns[-1].state != "resolved"}


def test_what_64_ranks_say_alike_is_one_incident_and_one_snapshot() -> None:
    judging, ranks = engine(), range(64)
    train(judging, ranks, range(40))
    said = train(judging, ranks, range(40, 43), float("nan"), 40 * 64)
    findings = [o for o in said if isinstance(o, Finding)]
    assert 64 == len(findings)
    assert {"nan"} == {f.kind for f in findings}
    assert 1 == len([o for o in said if isinstance(o, Decision)])
    turns = [o for o in said if isinstance(o, IncidentEvent)]
    assert ["opened"] + ["updated"] * 63 == [t.state for t in turns]
    assert 1 == len({t.id for t in turns})
    assert "ranks 0–63" in turns[-1].message
    over = [o for o in train(judging, ranks, range(43, 60), 0.7, 43 * 64) if isinstance(o, IncidentEvent)]
    assert ["resolved"] == [t.state for t in over]


def test_a_rank_whose_lines_come_late_joins_the_incident_that_is_over() -> None:
    judging = engine()
    train(judging, [0, 1], range(40))
    said: list[Output] = []
    for rank in (0, 1):
        for step in range(40, 60):
            said += judging.feed(record(200 + step, step, rank, 9.0 if step == 40 else 0.7, 2e9))
    assert 1 == len({t.id for t in said if isinstance(t, IncidentEvent)})
    assert ["loss_spike"] == [k for o in said if isinstance(o, Decision) for k in o.kinds]


def test_a_spike_of_another_time_is_another_incident() -> None:
    judging = engine()
    train(judging, [0, 1], range(40))
    said: list[Output] = []
    for rank, at in ((0, 40), (1, 80)):
        for step in range(40, 100):
            said += judging.feed(record(200 + step, step, rank, 9.0 if step == at else 0.7, 2e9))
    assert 2 == len({t.id for t in said if isinstance(t, IncidentEvent)})


def test_the_best_model_of_ranks_in_step_is_kept_once() -> None:
    judging, ranks = engine(), range(8)
    train(judging, ranks, range(40))
    said = train(judging, ranks, range(40, 44), 0.3, 40 * 8)
    assert ["best_model"] == [k for o in said if isinstance(o, Decision) and not o.gated for k in o.kinds]


def test_the_state_of_a_rank_is_bounded() -> None:
    judging, ranks = engine(), range(64)
    train(judging, ranks, range(60))
    train(judging, ranks, range(60, 64), float("nan"))
    assert len(json.dumps(judging.state())) <= 64 * MOST_A_RANK


def test_rank_numbers_without_end_are_not_judged_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smart_monitor.engine.MAX_RANKS", 16)
    judging = engine()
    for rank in range(40):
        judging.feed(record(rank, 1, rank))
    assert 16 == len(judging.ranks)


def test_what_ranks_have_open_that_are_no_more_after_a_restart_is_over() -> None:
    judging = engine()
    train(judging, range(4), range(40))
    train(judging, range(4), range(40, 42), float("nan"), 160)
    assert [[0, 1, 2, 3]] == [i["open"] for i in judging.incidents]
    said = train(judging, [0, 1], range(30, 60), start=200)
    assert [] == judging.incidents
    assert "resolved" == [t.state for t in said if isinstance(t, IncidentEvent)][-1]


def test_the_end_of_the_run_ends_what_all_ranks_have_open() -> None:
    judging = engine()
    train(judging, [0, 1, 2], range(40))
    train(judging, [0, 1, 2], range(40, 42), float("nan"), 120)
    assert 1 == len(judging.incidents)
    said = judging.feed(Record("r", "status", 0, kind=STATE, state="completed", seen=1e9 + 50))
    assert ["resolved"] == [t.state for t in said if isinstance(t, IncidentEvent)]
    assert [] == judging.incidents


def write(path: Path, steps: range, **more: object) -> None:
    with path.open("a") as lines:
        for step in steps:
            lines.write(json.dumps({"step": step, "loss": 0.7 + 0.001 * (step % 3), **more}) + "\n")


def test_files_of_ranks_are_replayed_together_and_the_one_that_stops_is_named(tmp_path: Path) -> None:
    for rank in range(4):
        write(tmp_path / f"metrics_rank_{rank}.jsonl", range(100 if rank == 2 else 200))
    found = [f for _, outputs in replay(tmp_path, SETTINGS) for f in outputs if isinstance(f, Finding) and f.severity != "info"]
    assert [("rank_lag", 2)] == [(f.kind, f.rank) for f in found]
    assert "rank 2 stopped at step 99" in found[0].message


def test_rank_keys_inside_the_rows_of_one_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(200):
        for rank in range(3):
            if rank != 1 or step < 90:
                write(path, range(step, step + 1), rank=rank)
    found = [f for _, outputs in replay(path, SETTINGS) for f in outputs if isinstance(f, Finding) and f.severity != "info"]
    assert [("rank_lag", 1)] == [(f.kind, f.rank) for f in found]


def test_ranks_are_named_in_few_words() -> None:
    assert ["rank 3", "ranks 0, 1", "ranks 0–3, 7"] == [words([3]), words([1, 0]), words([7, 0, 1, 2, 3])]


def test_when_all_ranks_hang_the_one_that_did_not_come_along_is_named() -> None:
    judging = engine()
    train(judging, range(4), range(50))
    train(judging, [0, 1, 3], range(50, 51), start=200)
    said = judging.feed(Record("r", "host", 0, seen=1e9 + 400, kind=TICK, values={}))
    [stall] = [f for f in said if isinstance(f, Finding)]
    assert "stall" == stall.kind
    assert "rank 2 did not reach step 50" in stall.message


def test_a_run_whose_rank_0_writes_nothing_is_judged_and_can_stall() -> None:
    judging = engine()
    train(judging, [3, 5], range(50))
    said = judging.feed(Record("r", "host", 0, seen=1e9 + 400, kind=TICK, values={}))
    assert ["stall"] == [f.kind for f in said if isinstance(f, Finding)]
    first = judging.judge()
    assert first is not None
    assert 3 == first.rank
