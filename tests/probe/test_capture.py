"""Anomalies kept with their batch: whole, bounded, and enough to run the step again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from smart_monitor.probe import Capture, Limits, rng_state  # noqa: E402

pytestmark = pytest.mark.torch


def told(out: Path, rank: int = 0) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no strict JSON")

    lines = (out / f"anomalies/anomalies_rank_{rank}.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_step_can_be_run_again_from_what_was_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    batch = {"inputs": torch.randn(6, 4), "targets": torch.randn(6, 1)}
    before = rng_state()
    loss = (model(batch["inputs"]) - batch["targets"]).square().mean()

    capture = Capture(tmp_path, rank=3)
    place = capture.save(17, loss=math.nan, grad_norm=math.inf, batch=batch, record={"loss": math.nan}, rng=before, reason="nan")
    assert capture.flush(60)
    (line,) = told(tmp_path, 3)
    assert line["data_dir"] == place
    assert (line["step"], line["rank"], line["loss"], line["grad_norm"]) == (17, 3, "NaN", "Infinity")
    assert line["batch_info"]["inputs_shape"] == [6, 4]
    again = load_file(tmp_path / line["batch_info"]["inputs_path"])["inputs"]
    torch.set_rng_state(load_file(tmp_path / line["rng_path"])["cpu"])
    assert torch.equal(again, batch["inputs"])
    # Up to rounding, which depends on where in memory a batch lies; another mask of the dropout is far from it.
    assert (model(again) - batch["targets"]).square().mean().item() == pytest.approx(loss.item(), rel=1e-5)
    assert {"loss": "NaN"} == json.loads((tmp_path / place / "record.json").read_text())
    capture.close()


@dataclass
class Sample:
    latents: torch.Tensor
    weight: float


def test_batches_of_any_shape_are_taken_apart_and_names_are_safe(tmp_path: Path) -> None:
    capture = Capture(tmp_path)
    bare = torch.ones(2, dtype=torch.bfloat16)
    made = torch.zeros(3, requires_grad=True) * 2  # which cannot be deep-copied
    batch = [bare, (Sample(made, 0.5), {"../up/and away": torch.ones(1).expand(4)}), "some text", object()]
    capture.save(1, batch=batch)
    capture.save(1, batch=torch.eye(2))
    assert capture.flush(60)
    first, second = told(tmp_path)
    assert {"0", "1.0.latents", "1.1..._up_and_away"} == {
        k.removesuffix("_path") for k in first["batch_info"] if k.endswith("_path")
    }
    assert first["batch_info"]["1.0.weight"] == 0.5
    assert torch.equal(load_file(tmp_path / first["batch_info"]["0_path"])["0"], bare)
    assert torch.equal(load_file(tmp_path / second["batch_info"]["batch_path"])["batch"], torch.eye(2))
    assert first["data_dir"] != second["data_dir"]
    assert {p.parent.parent for p in tmp_path.rglob("*.safetensors")} == {tmp_path / "anomalies/data"}
    capture.close()


def test_count_and_bytes_are_bounded_also_over_restarts_and_lines_go_on(tmp_path: Path) -> None:
    for attempt in range(2):
        capture = Capture(tmp_path, limits=Limits(count=3))
        (tmp_path / "anomalies/data/.partial-step_1_rank_0_x").mkdir(parents=True, exist_ok=True)
        for step in range(2):
            capture.save(10 * attempt + step, batch=torch.ones(5))
            assert capture.flush(60)
        capture.close()
    assert [bool(line["data_dir"]) for line in told(tmp_path)] == [True, True, True, False]
    assert "3 anomalies" in told(tmp_path)[-1]["missing"][0]
    assert 3 == len(list((tmp_path / "anomalies/data").iterdir()))
    large = Capture(tmp_path / "large", limits=Limits(bytes_each=100))
    large.save(1, batch={"a": torch.ones(5), "b": torch.ones(50)})
    large.close()
    (line,) = told(tmp_path / "large")
    assert "a_path" in line["batch_info"]
    assert "b_path" not in line["batch_info"]
    assert line["batch_info"]["b_shape"] == [50]
    assert line["missing"] == ["b: the batch is larger than 100 bytes"]


def test_a_disk_that_refuses_costs_the_data_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "anomalies").mkdir()
    (tmp_path / "anomalies/data").write_text("in the way")
    capture = Capture(tmp_path)
    capture.save(1, batch=torch.ones(3))
    assert capture.flush(60)
    (line,) = told(tmp_path)
    assert line["data_dir"] is None
    assert line["missing"][0].startswith("no data:")
    assert "batch_path" not in line["batch_info"]
    capture.close()


def test_a_batch_that_cannot_be_read_costs_the_batch(tmp_path: Path) -> None:
    class Broken(dict):
        def items(self) -> Any:
            raise RuntimeError("not now")

    capture = Capture(tmp_path)
    capture.save(1, batch=Broken())
    capture.close()
    (line,) = told(tmp_path)
    assert line["missing"] == ["the batch could not be read: RuntimeError"]
    assert (tmp_path / line["data_dir"] / "rng.safetensors").exists()


def test_tensors_whose_names_become_the_same_in_a_file_system_are_all_kept(tmp_path: Path) -> None:
    batch = {"a/b": torch.ones(1), "a b": torch.ones(2), "rng": torch.ones(3), "x" * 120: torch.ones(4), "x" * 130: torch.ones(5)}
    capture = Capture(tmp_path)
    capture.save(1, batch=batch)
    assert capture.flush(60)
    (line,) = told(tmp_path)
    paths = [path for key, path in line["batch_info"].items() if key.endswith("_path")]
    assert [1, 2, 3, 4, 5] == [len(next(iter(load_file(tmp_path / path).values()))) for path in paths]
    assert load_file(tmp_path / line["rng_path"])["cpu"].dtype == torch.uint8
    capture.close()


def test_two_that_keep_the_same_step_of_one_run_do_not_take_each_other_s_place(tmp_path: Path) -> None:
    """As the probe and a detector do, or two detectors."""
    captures = [Capture(tmp_path, limits=Limits(count=4)) for _ in range(3)]
    for step in (1, 2):
        for n, capture in enumerate(captures):
            capture.save(step, batch=torch.full((1,), float(n)))
    assert all(capture.flush(60) for capture in captures)
    kept = [line for line in told(tmp_path) if line["data_dir"]]
    assert len(kept) >= 4
    assert len({line["data_dir"] for line in kept}) == len(kept) == len(list((tmp_path / "anomalies/data").iterdir()))
    assert all(load_file(tmp_path / line["batch_info"]["batch_path"]) for line in kept)
    for capture in captures:
        capture.close()
