"""Several ranks, in parallel or sharded: the numbers of one process, and nobody waits for a rank that fails."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from smart_monitor.probe import Probe  # noqa: E402
from tests.probe import ranks  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


def trained(directory: Path, mode: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of the first rank, and what each rank said of its probe."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(ranks.__file__))]
    running = [
        subprocess.Popen([*command, str(rank), mode, str(directory)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return read(directory) if (directory / "probe_rank_0.jsonl").exists() else [], said


def read(directory: Path, rank: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"probe_rank_{rank}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of the same training in one process."""
    directory = tmp_path_factory.mktemp("alone")
    model = ranks.fresh()
    with Probe(model, None, directory, schedule=ranks.SCHEDULE) as probe:
        ranks.train(model, probe, slice(0, 8), "alone", 0)
    return read(directory)


@pytest.mark.parametrize("mode", ["ddp", "fsdp2"])
def test_two_ranks_give_the_numbers_of_one_process(tmp_path: Path, mode: str, alone: list[dict[str, Any]]) -> None:
    found, said = trained(tmp_path, mode)
    assert said == ["1", "1"]
    assert len(found) == len(alone) == ranks.STEPS
    for ours, theirs in zip(found, alone, strict=True):
        names = [n for n in theirs if n.startswith(("grad", "update_", "weight", "has_", "dead", "still")) and n != "weight/min"]
        names.remove("weight/max") if "weight/max" in names else None
        assert {n: ours[n] for n in names} == pytest.approx({n: theirs[n] for n in names}, rel=1e-4, abs=1e-6)
    assert {"grad_cosine", "update_ratio", "weight_stability", "grad_layer_variance/2.weight"} < {
        name for record in found for name in record
    }
    other = read(tmp_path, 1)
    assert [r["step"] for r in other] == [r["step"] for r in found]
    assert all("loss" in r and "grad_norm" not in r for r in other)


def test_nan_in_one_shard_is_counted_and_named(tmp_path: Path) -> None:
    found, _ = trained(tmp_path, "fsdp2_nan")
    bad = found[4]
    assert math.isnan(bad["grad_layer/2.weight"])
    assert bad["has_nan"] == 1
    assert {"2.weight"} == {n.removeprefix("grad_layer/") for n, v in bad.items() if n.startswith("grad_layer/") and v != v}
    assert all(math.isfinite(r["grad_norm"]) for r in found if r is not bad)
    for rank in range(2):
        (line,) = (tmp_path / f"anomalies/anomalies_rank_{rank}.jsonl").read_text().splitlines()
        assert json.loads(line)["step"] == 5


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("fsdp1", "FullyShardedDataParallel (FSDP1) hides its gradients in flat shards; use fully_shard (FSDP2)."),
        ("fsdp2_backward", "in_backward works with whole parameters; with sharded ones let the optimiser step after backward."),
        (
            "ddp_backward",
            "in_backward works on one process; DistributedDataParallel averages gradients after hooks have seen them.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence_on_every_rank_and_trains(tmp_path: Path, mode: str, why: str) -> None:
    assert trained(tmp_path, mode) == ([], [why, why])


@pytest.mark.parametrize("how", ["fails", "breaks"])
def test_when_one_rank_cannot_measure_all_stop_measuring_and_training_goes_on(tmp_path: Path, how: str) -> None:
    _, said = trained(tmp_path, f"fsdp2_{how}")
    assert [line[0] for line in said] == ["0", "0"]
    assert "another rank" in said[0]
    assert "Error" in said[1]
