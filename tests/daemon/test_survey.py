"""What one monitor tells of the host that all of its runs share: one alarm for one full disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smart_monitor.config import Settings
from smart_monitor.daemon.survey import tell_once
from tests.command_line import command
from tests.daemon.watching import Monitor, Trainer
from tests.waiting import until

FULL = {"disk_free_bytes": 1e9, "host_memory_percent": 95.0, "container_memory_percent": 99.0}


def run(out: Path, *, hung: bool = False, **settings: Any) -> Any:
    return SimpleNamespace(
        place=SimpleNamespace(out=out), settings=Settings(**settings), outlook=SimpleNamespace(hung=hung),
        trainer=SimpleNamespace(pid=None),
    )  # fmt: skip


def marked(*runs: Any, values: dict[str, float] = FULL) -> list[list[str]]:
    """The figures that are marked, of each run."""
    found = {str(r.place.out): dict(values) for r in runs}
    tell_once(runs, found)
    assert all(figures.items() >= values.items() for figures in found.values())
    return [sorted(name.removesuffix("_elsewhere") for name in found[str(r.place.out)].keys() - values.keys()) for r in runs]


@pytest.fixture
def outs(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in "abc"]
    for path in made:
        path.mkdir()
    return made


def test_the_first_run_alarms_and_the_others_inform(outs: list[Path]) -> None:
    assert [[], sorted(FULL), sorted(FULL)] == marked(*map(run, outs))


def test_where_nothing_is_beyond_its_limit_nothing_is_marked(outs: list[Path]) -> None:
    assert [[], [], []] == marked(*map(run, outs), values={"disk_free_bytes": 1e12, "host_memory_percent": 89.0})


def test_a_run_with_a_limit_of_its_own_alarms_for_itself(outs: list[Path]) -> None:
    a, b, c = outs
    memory = ["container_memory_percent", "host_memory_percent"]
    assert [[], ["disk_free_bytes"], memory] == marked(run(a), run(b, memory_limit=94.0), run(c, min_free_gb=1.0))


def test_a_run_that_hangs_or_does_not_judge_it_alarms_for_nobody(outs: list[Path]) -> None:
    a, b, c = outs
    disabled = run(b, disabled_rules=("disk_low", "memory_growth"))
    assert [[], [], []] == marked(run(a, hung=True), disabled, run(c))


def test_a_full_disk_is_one_alert_of_one_monitor_and_replay_says_the_same(outs: list[Path]) -> None:
    for base in outs:
        Trainer(base).train(2)
    settings = {"SMART_MONITOR_MIN_FREE_GB": "1e7"}
    with Monitor(*outs, settings=settings) as monitor:
        logs = [Monitor(base) for base in outs]
        until(lambda: all("disk_low" in log.findings() for log in logs), "the findings")
        assert 0 == monitor.stop()
    assert [1, 0, 0] == [len([line for line in log.alerts() if "disk_low" in line]) for log in logs]
    assert [1, 1, 1] == [len(log.having("disk_low")) for log in logs]
    for log in logs:
        assert log.told() == command("replay", log.out, "--format", "jsonl", settings=settings).stdout
