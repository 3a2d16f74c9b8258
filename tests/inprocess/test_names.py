"""Every name people know is importable from one place, cheaply, and without torch its absence is one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

import smart_monitor.probe

FACES = [
    "GradientHealthMonitor",
    "EnhancedTrainingMixin",
    "EnhancedLightningCLIPModule",
    "AdvancedAnomalyDetector",
    "GradientAnomalyDetector",
    "LearningRateAnomalyDetector",
    "BatchSizeImpactAnalyzer",
    "ConvergenceTracker",
    "RewardCalibrationDriftDetector",
    "AnomalyDetectionHook",
    "ProfilerHooks",
    "AnomalyDetector",
    "MetricsCollector",
    "calculate_gradient_cosine_similarity",
    "ActivationMonitor",
    "add_gradient_checkpointing",
    "reward_calibration",
    "reward_drift",
]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_all_of_them_are_listed():
    assert set(FACES) <= set(smart_monitor.probe.__all__) <= set(dir(smart_monitor.probe))
    assert sorted(smart_monitor.probe.__all__) == smart_monitor.probe.__all__ == sorted(smart_monitor.probe._HOMES)
    assert not hasattr(smart_monitor.probe, "NoSuchFace")


def test_importing_the_package_imports_neither_torch_nor_the_engine():
    names = "('torch', 'numpy', 'smart_monitor.engine', 'smart_monitor.inprocess')"
    done = run(f"import smart_monitor.probe, sys; print([n for n in {names} if n in sys.modules])")

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["GradientHealthMonitor", "AdvancedAnomalyDetector", "MetricsCollector"])
def test_without_torch_one_sentence_says_what_to_install(name: str):
    done = run(f"import sys; sys.modules['torch'] = None; from smart_monitor.probe import {name}")

    assert done.stderr.splitlines()[-1] == "ImportError: smart_monitor.probe needs PyTorch: pip install 'smart-monitor[torch]'"


@pytest.mark.torch
def test_each_of_them_can_be_imported():
    pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")
    for name in FACES:
        if name != "EnhancedLightningCLIPModule":  # that needs Lightning
            assert getattr(smart_monitor.probe, name).__name__ == name
