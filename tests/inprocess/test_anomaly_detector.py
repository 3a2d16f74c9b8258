"""AnomalyDetector: the three strategies, the lines and files of a step that went wrong, nothing on an ordinary one."""

from __future__ import annotations

import json
import math
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from safetensors.torch import load_file  # noqa: E402

from smart_monitor.probe import AnomalyDetector, Limits  # noqa: E402

pytestmark = pytest.mark.torch


def told(detector: AnomalyDetector, losses: list[float], norms: list[float] | None = None) -> list[int]:
    """The steps that are anomalies."""
    return [
        step for step, loss in enumerate(losses) if detector.check(step, loss, norms[step] if norms is not None else None)
    ]  # fmt: skip


def lines(directory: Path, rank: int = 0) -> list[dict[str, Any]]:
    file = directory / "anomalies" / f"anomalies_rank_{rank}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_an_anomaly_leaves_the_documented_record_and_its_batch(tmp_path: Path):
    for number in (20, 100):
        (tmp_path / f"checkpoint-{number}").mkdir()
    detector = AnomalyDetector(
        output_dir=tmp_path, rank=1, window_size=50, loss_threshold_factor=2.0, grad_norm_threshold_factor=2.0
    )
    source, found = random.Random(0), []
    losses, norms = [0.08 + source.gauss(0, 0.02) for _ in range(200)], [0.25 + source.gauss(0, 0.08) for _ in range(200)]
    losses[123], norms[123] = 0.85, 2.9
    latents, states = torch.randn(1, 4, 8, 8), torch.randn(2, 3, dtype=torch.bfloat16)
    for step in range(200):
        record = detector.check(step, losses[step], norms[step], batch={"latents": latents, "encoder_hidden_states": states})
        if record:
            found.append(record)
    assert detector.flush()
    (line,) = lines(tmp_path, rank=1)

    assert [record["step"] for record in found] == [123] and detector.anomalies == 1
    assert {f["kind"] for f in found[0]["findings"]} == {"loss_spike", "gradient_explosion"}
    assert (line["step"], line["rank"], line["loss"], line["grad_norm"]) == (123, 1, 0.85, 2.9)
    assert datetime.fromisoformat(line["timestamp"])
    assert line["model_checkpoint"] == "checkpoint-100"
    assert set(line["threshold_info"]) == {
        "loss_median", "loss_mad", "loss_threshold", "grad_norm_median", "grad_norm_mad", "grad_norm_threshold",
        "loss_mean", "loss_std", "grad_norm_mean", "grad_norm_std", "relative_loss_change", "relative_grad_change",
    }  # fmt: skip
    info = line["threshold_info"]
    assert info["loss_threshold"] == pytest.approx(info["loss_median"] + 2.0 * 1.4826 * info["loss_mad"])
    assert info["relative_loss_change"] == pytest.approx(0.85 / losses[122] - 1)
    assert line["data_dir"].startswith("anomalies/data/step_123_rank_1_")
    assert line["batch_info"]["latents_shape"] == [1, 4, 8, 8]
    assert line["batch_info"]["latents_path"] == f"{line['data_dir']}/latents.safetensors"
    assert torch.equal(load_file(tmp_path / line["batch_info"]["latents_path"])["latents"], latents)
    kept = load_file(tmp_path / line["batch_info"]["encoder_hidden_states_path"])
    assert torch.equal(kept["encoder_hidden_states"], states)


def test_fixed_thresholds_are_literal_from_the_first_step_and_the_relative_test_still_applies(tmp_path: Path):
    detector = AnomalyDetector(tmp_path, fixed_loss_threshold=0.3, fixed_grad_norm_threshold=1.0)

    assert told(detector, [0.31, 0.2, 0.29, 0.29, 0.3, 0.2], [0.2, 0.2, 0.9, 1.01, 1.0, 0.3]) == [0, 3]
    calm = [0.01 + 0.0001 * (step % 5) for step in range(40)]
    assert told(AnomalyDetector(tmp_path, fixed_loss_threshold=0.3), [*calm, 0.02, 0.01]) == [40]


def test_without_the_guard_the_bare_formulas_hold(tmp_path: Path):
    calm = [1.0, 1.1, 0.9, 1.05, 0.95] * 6
    threshold = 1.0 + 2.0 * 1.4826 * 0.05
    bare = AnomalyDetector(tmp_path, noise_guard=False)
    guarded = AnomalyDetector(tmp_path)

    assert told(bare, [*calm, threshold + 0.001]) == [30]
    assert told(AnomalyDetector(tmp_path, noise_guard=False), [*calm, threshold - 0.001]) == []
    assert told(guarded, [*calm, threshold + 0.001]) == []
    assert told(AnomalyDetector(tmp_path, noise_guard=False, loss_threshold_factor=100.0), [*calm, 0.95 * 1.51]) == [30]


def test_a_noisy_healthy_run_is_silent(tmp_path: Path):
    source = random.Random(1)
    losses = [(3 * 0.995**step + 0.5) * math.exp(source.gauss(0, 0.15)) for step in range(1500)]
    norms = [math.exp(source.gauss(0, 0.4)) for _ in range(1500)]

    assert told(AnomalyDetector(tmp_path), losses, norms) == []
    assert not (tmp_path / "anomalies").exists()


def test_what_is_not_finite_is_an_anomaly_from_the_first_step(tmp_path: Path):
    detector = AnomalyDetector(tmp_path)

    assert told(detector, [math.nan, 1.0, 1.0, 1.0], [1.0, 1.0, math.inf, 1.0]) == [0, 2]
    assert detector.flush()
    assert [line["loss"] for line in lines(tmp_path)] == ["NaN", 1.0]


def test_every_step_of_lasting_trouble_has_its_line_unless_told_otherwise(tmp_path: Path):
    losses = [1.0] * 30 + [5.0] * 4 + [1.0] * 5

    assert told(AnomalyDetector(tmp_path), losses) == [30, 31, 32, 33]
    assert told(AnomalyDetector(tmp_path, repeat=False), losses) == [30]


def test_data_is_bounded_and_the_lines_go_on(tmp_path: Path):
    detector = AnomalyDetector(tmp_path, fixed_loss_threshold=1.0, limits=Limits(count=2, bytes_free=0))
    for step in range(5):
        detector.check(step, 2.0, batch=torch.ones(2))
        assert detector.flush()

    assert len(list((tmp_path / "anomalies" / "data").iterdir())) == 2
    assert [line["data_dir"] is None for line in lines(tmp_path)] == [False, False, True, True, True]


def test_numbers_that_mean_nothing_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="fixed_loss_threshold must be a number above 0"):
        AnomalyDetector(tmp_path, fixed_loss_threshold=-1)
    with pytest.raises(ValueError, match="one number is needed, not 2"):
        AnomalyDetector(tmp_path).check(0, torch.ones(2))
