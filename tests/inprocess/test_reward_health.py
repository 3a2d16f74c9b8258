"""Reward models: calibration and drift against what chance gives, told with n; healthy ones are silent."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from smart_monitor.probe import (  # noqa: E402
    AdvancedAnomalyDetector,
    RewardCalibrationDriftDetector,
    reliability_diagram,
    reward_calibration,
    reward_drift,
)
from smart_monitor.probe.rewards import null_calibration  # noqa: E402

pytestmark = pytest.mark.torch


def margins(n: int, seed: int) -> torch.Tensor:
    """Of a perfectly calibrated model."""
    generator = torch.Generator().manual_seed(seed)
    size = 2 * torch.randn(n, generator=generator).abs()
    return torch.where(torch.rand(n, generator=generator) < torch.sigmoid(size), size, -size)


def test_a_perfect_model_does_not_exceed_chance_and_one_too_sure_does():
    zeros = torch.zeros(128)
    above = sum("ece" in reward_calibration(margins(128, seed), zeros, draws=199)["exceeds"] for seed in range(40))
    report = reward_calibration(6 * margins(128, 99), zeros)

    assert above <= 4
    assert report["exceeds"] == ["ece", "brier"]
    assert (report["n"], report["dropped"], report["level"]) == (128, 0, 0.99)
    assert 0.1 < report["scale"] < 0.3  # a sixth
    assert report["ece"] > report["null"]["ece"] > 0.05


def test_the_null_is_what_chance_was_measured_to_give():
    errors, briers = null_calibration(margins(128, 5), 400, torch.Generator().manual_seed(1))
    sure = torch.sigmoid(margins(128, 5).double().abs())

    assert 0.04 < float(errors.mean()) < 0.09
    assert float(briers.mean()) == pytest.approx(float((sure * (1 - sure)).mean()), rel=0.1)


def test_margins_that_were_trained_for_are_taken_off_and_what_is_not_finite_is_counted():
    chosen, rejected = torch.tensor([2.0, 3.0, math.nan]), [0.0, 1.0, 0.0]
    report = reward_calibration(chosen, rejected, margin=[1.0, 1.0, 1.0], draws=20)

    assert (report["n"], report["dropped"]) == (2, 1)
    assert report["brier"] == pytest.approx((1 - 1 / (1 + math.exp(-1))) ** 2)
    with pytest.raises(ValueError, match="of one length, not 2, 1 and 2"):
        reward_calibration([1, 2], [1])
    with pytest.raises(ValueError, match="at least one pair"):
        reward_calibration([math.nan], [1])


def test_the_diagram_shows_every_bin_that_holds_pairs():
    text = reliability_diagram(reward_calibration(margins(200, 1), torch.zeros(200), draws=20)).splitlines()

    assert text[0].startswith("confidence  right  n=200, ECE 0.")
    assert len(text) == 11


def test_alike_pools_are_alike_and_a_shift_exceeds_its_permutations():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(128, generator=generator), torch.randn(128, generator=generator)
    alike, apart = reward_drift(a, b, draws=99), reward_drift(a, b + 1, draws=99)

    assert alike["exceeds"] == [] and min(alike["p"].values()) > 0.01
    assert apart["exceeds"] == ["ks", "wasserstein", "psi"]
    assert set(apart["p"].values()) == {0.01} and apart["n"] == (128, 128)


def test_the_detector_is_silent_on_a_healthy_reward_model_and_tells_one_that_grows_too_sure(tmp_path: Path):
    detector = AdvancedAnomalyDetector(tmp_path)
    found = []
    for step in range(100):
        pairs = margins(16, step) * (6 if step >= 50 else 1)
        found += detector.analyze_training_step(step=step, chosen_rewards=pairs + 3, rejected_rewards=torch.full((16,), 3.0))

    assert min(a["step"] for a in found) > 50
    assert {a["kind"] for a in found} == {"reward_calibration_drift", "reward_distribution_drift"}
    assert {(a["category"], a["severity"], a["level"]) for a in found} == {("reward", "medium", "info")}
    assert found[0]["metadata"]["report"]["level"] >= 0.99
    assert set(detector.summary()["reward"]) == {"calibration", "drift"}


def test_rewards_alone_are_watched_for_drift():
    detector = RewardCalibrationDriftDetector(window_size=64)
    generator = torch.Generator().manual_seed(3)
    found = [
        alert
        for step in range(40)
        for alert in detector.analyze_reward_drift(step, rewards=torch.randn(16, generator=generator) + (2 if step >= 20 else 0))
    ]

    assert [a["kind"] for a in found] == ["reward_distribution_drift"]
    assert 20 <= found[0]["step"] < 24


def test_one_side_of_pairs_is_refused():
    detector = RewardCalibrationDriftDetector()
    with pytest.raises(ValueError, match="given together"):
        detector.analyze_reward_drift(0, chosen_rewards=[1.0])
    with pytest.raises(ValueError, match="of one length, not 2 and 1"):
        detector.analyze_reward_drift(0, chosen_rewards=[1.0, 2.0], rejected_rewards=[1.0])
    with pytest.raises(ValueError, match="window_size is at least 16"):
        RewardCalibrationDriftDetector(window_size=4)
