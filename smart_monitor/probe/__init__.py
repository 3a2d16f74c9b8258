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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smart_monitor.probe.capture import Capture, Limits, rng_state
    from smart_monitor.probe.gradients import GradientMeter, Gradients, measure_gradients
    from smart_monitor.probe.recorder import Probe
    from smart_monitor.probe.schedule import Schedule
    from smart_monitor.probe.writer import RecordWriter

__all__ = [
    "Capture",
    "GradientMeter",
    "Gradients",
    "Limits",
    "Probe",
    "RecordWriter",
    "Schedule",
    "measure_gradients",
    "rng_state",
]

_HOMES = {
    "Capture": "smart_monitor.probe.capture",
    "Limits": "smart_monitor.probe.capture",
    "rng_state": "smart_monitor.probe.capture",
    "GradientMeter": "smart_monitor.probe.gradients",
    "Gradients": "smart_monitor.probe.gradients",
    "measure_gradients": "smart_monitor.probe.gradients",
    "Probe": "smart_monitor.probe.recorder",
    "Schedule": "smart_monitor.probe.schedule",
    "RecordWriter": "smart_monitor.probe.writer",
}
"""Where each name lives."""


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch is an extra, and its absence is one sentence."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("smart_monitor.probe needs PyTorch: pip install 'smart-monitor[torch]'") from error
