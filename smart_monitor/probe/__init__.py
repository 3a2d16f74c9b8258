"""The probe: what a log cannot show, measured inside the training process (extra `[torch]`).

    from smart_monitor.probe import Probe

    probe = Probe(model, optimizer, "runs/llama-7b")
    ...
    loss.backward()
    probe.step(loss)
    optimizer.step()

It only writes records, to `probe_rank_R.jsonl` in the run's directory; the monitor beside judges them. An error in
it never reaches training: it switches itself off and says so once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smart_monitor.lazily import lazily

if TYPE_CHECKING:
    from smart_monitor.probe.attaching import Attached, attach
    from smart_monitor.probe.capture import Capture, Limits, rng_state
    from smart_monitor.probe.gradients import GradientMeter, Gradients, measure_gradients
    from smart_monitor.probe.lightning import ProbeCallback, ProbeMixin
    from smart_monitor.probe.parameters import CannotMeasure
    from smart_monitor.probe.recorder import Probe
    from smart_monitor.probe.schedule import Schedule
    from smart_monitor.probe.writer import RecordWriter

__all__ = [
    "ActivationMonitor",
    "AdvancedAnomalyDetector",
    "AnomalyDetectionHook",
    "AnomalyDetector",
    "Attached",
    "BatchSizeImpactAnalyzer",
    "CannotMeasure",
    "Capture",
    "ConvergenceTracker",
    "EnhancedLightningCLIPModule",
    "EnhancedTrainingMixin",
    "GradientAnomalyDetector",
    "GradientHealthMonitor",
    "GradientMeter",
    "Gradients",
    "LearningRateAnomalyDetector",
    "Limits",
    "MetricsCollector",
    "Probe",
    "ProbeCallback",
    "ProbeMixin",
    "ProfilerHooks",
    "RecordWriter",
    "RewardCalibrationDriftDetector",
    "Schedule",
    "add_gradient_checkpointing",
    "attach",
    "calculate_gradient_cosine_similarity",
    "measure_gradients",
    "reliability_diagram",
    "reward_calibration",
    "reward_drift",
    "rng_state",
]

_HERE = {
    "attaching": ("Attached", "attach"),
    "capture": ("Capture", "Limits", "rng_state"),
    "gradients": ("GradientMeter", "Gradients", "measure_gradients"),
    "lightning": ("ProbeCallback", "ProbeMixin"),
    "parameters": ("CannotMeasure",),
    "recorder": ("Probe",),
    "schedule": ("Schedule",),
    "writer": ("RecordWriter",),
}
# By name only: the probe itself knows nothing of those who judge.
_FACES = {
    "activations": ("ActivationMonitor",),
    "advanced": ("AdvancedAnomalyDetector",),
    "anomaly_detector": ("AnomalyDetector",),
    "clip_module": ("EnhancedLightningCLIPModule",),
    "detectors": ("BatchSizeImpactAnalyzer", "ConvergenceTracker", "GradientAnomalyDetector", "LearningRateAnomalyDetector"),
    "gradient_health": ("GradientHealthMonitor",),
    "hooks": ("AnomalyDetectionHook", "ProfilerHooks"),
    "metrics_collector": ("MetricsCollector", "calculate_gradient_cosine_similarity"),
    "mixin": ("EnhancedTrainingMixin",),
    "reward_health": ("RewardCalibrationDriftDetector", "reliability_diagram", "reward_calibration", "reward_drift"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _HERE.items() for name in names}
_HOMES |= {name: f"smart_monitor.inprocess.{module}" for module, names in _FACES.items() for name in names}
_HOMES["add_gradient_checkpointing"] = "smart_monitor.losses.checkpointing"
"""Where each name lives."""
_INSTALLED_BY = {
    "torch": "smart_monitor.probe needs PyTorch: pip install 'smart-monitor[torch]'",
    "pytorch_lightning": "ProbeCallback, ProbeMixin and EnhancedLightningCLIPModule need Lightning: pip install lightning",
}

__getattr__, __dir__ = lazily(__name__, _HOMES, _INSTALLED_BY)
