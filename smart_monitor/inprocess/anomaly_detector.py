"""AnomalyDetector: loss and gradient norm of each step, and the batch of a step that went wrong."""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

from torch import Tensor

from smart_monitor.config import Settings
from smart_monitor.inprocess.numbers import scalar
from smart_monitor.inprocess.options import positive
from smart_monitor.inprocess.panel import Panel
from smart_monitor.model import Finding
from smart_monitor.probe.capture import Capture, Limits
from smart_monitor.rules._strategies import MAD_TO_SIGMA

FACTOR = 2.0
LEAST = 3
"""Values from which a median and a deviation from it are worth telling."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class AnomalyDetector:
    """Three strategies for each of loss and gradient norm; each process of a distributed run has its own.

        detector = AnomalyDetector(output_dir="out", rank=rank, window_size=50, fixed_loss_threshold=0.3)
        ...
        detector.check(step, loss, grad_norm, batch={"latents": latents, "encoder_hidden_states": states})

    Above median + factor x 1.4826 x MAD of the last `window_size` values; or above the fixed threshold, which takes the
    place of the former and holds from the first value on; or 50 % above the step before, in any case. What is not finite is
    an anomaly whatever stands before it. On the first and the last of the three stands the engine's noise guard: what
    this run's own noise explains is no anomaly (noise_guard=False: the bare formulas).

    Each anomalous step (with repeat=False only the first of several in a row) becomes a line of
    output_dir/anomalies/anomalies_rank_R.jsonl, and its batch, with the random state, safetensors files under
    output_dir/anomalies/data/step_S_rank_R_TIMESTAMP/, within `limits`. Writing never holds training up.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        rank: int = 0,
        window_size: int = 50,
        loss_threshold_factor: float = FACTOR,
        grad_norm_threshold_factor: float = FACTOR,
        fixed_loss_threshold: float | None = None,
        fixed_grad_norm_threshold: float | None = None,
        *,
        noise_guard: bool = True,
        repeat: bool = True,
        limits: Limits | None = None,
    ) -> None:
        """Raises ValueError for numbers that mean nothing."""
        positive(
            window_size=window_size, loss_threshold_factor=loss_threshold_factor,
            grad_norm_threshold_factor=grad_norm_threshold_factor, fixed_loss_threshold=fixed_loss_threshold,
            fixed_grad_norm_threshold=fixed_grad_norm_threshold,
        )  # fmt: skip
        self.output_dir, self.rank, self.window_size = Path(output_dir), int(rank), int(window_size)
        self.anomalies = 0
        """Anomalous steps so far."""
        self._courses = {
            "loss": _Course("loss", "loss_spike", loss_threshold_factor, fixed_loss_threshold, self.window_size),
            "grad_norm": _Course(
                "grad_norm", "gradient_explosion", grad_norm_threshold_factor, fixed_grad_norm_threshold, self.window_size
            ),
        }
        for course in self._courses.values():
            course.panels = course.strategies(noise_guard=noise_guard, repeat=repeat)
        self._nan = Panel(["nan"], Settings(), repeat=repeat)
        self._capture = Capture(self.output_dir, self.rank, limits)

    def check(
        self,
        step: int,
        loss: float | Tensor,
        grad_norm: float | Tensor | None = None,
        batch: Any = None,
        model_checkpoint: str | None = None,
        rng: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Any] | None:
        """None for an ordinary step, else what was written about it, with `findings` (kind, strategy, message, …).

        batch: a tensor, or a mapping or sequence of them. model_checkpoint: the newest `checkpoint-N` in output_dir,
        if not given. rng: `rng_state()` from before the forward pass, for an exact second run.
        """
        given = {"loss": scalar(loss)} | ({} if grad_norm is None else {"grad_norm": scalar(grad_norm)})
        info: dict[str, Any] = {}
        findings: list[Finding] = self._nan.judge(given, step)
        for name, value in given.items():
            course = self._courses[name]
            info |= course.standing(value)
            found = course.judge(value, step)
            course.remember(value, anomalous=bool(found))
            findings += found
        if not findings:
            return None
        self.anomalies += 1
        checkpoint = model_checkpoint or newest_checkpoint(self.output_dir)
        record: dict[str, Any] = {
            "step": step, "rank": self.rank, **given, "model_checkpoint": checkpoint,
            "threshold_info": info, "findings": [_told(f) for f in findings],
        }  # fmt: skip
        record["data_dir"] = self._capture.save(
            step, loss=given["loss"], grad_norm=given.get("grad_norm"), batch=batch, record=record, rng=rng,
            threshold_info=info, model_checkpoint=checkpoint,
            reason="_".join(dict.fromkeys(f.kind for f in findings)),
        )  # fmt: skip
        return record

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all of it is on the disk, for `timeout` seconds at most; is it?"""
        return self._capture.flush(timeout)


class _Course:
    """One of the two metrics: its strategies, and the values that its thresholds are reckoned from."""

    def __init__(self, name: str, kind: str, factor: float, fixed: float | None, window: int) -> None:
        self.name, self.kind, self.factor, self.fixed = name, kind, factor, fixed
        self.panels: list[Panel] = []
        self._values: deque[float] = deque(maxlen=window)
        self._last = math.nan
        self._window = window

    def strategies(self, *, noise_guard: bool, repeat: bool) -> list[Panel]:
        relative = ("step",) if self.fixed is not None else ("mad", "step")
        usual = Settings(
            noise_guard=noise_guard, spike_strategies=relative, mad_factor=self.factor, mad_window=min(max(self._window, 5), 1000)
        )
        panels = [Panel([self.kind], usual, repeat=repeat)]
        if self.fixed is not None:
            loss = self.name == "loss"
            literal = Settings(
                noise_guard=False, spike_strategies=(), gradient_explosion_threshold=self.fixed,
                fixed_loss_threshold=self.fixed if loss else 0.0, fixed_grad_norm_threshold=0.0 if loss else self.fixed,
            )  # fmt: skip
            panels.append(Panel([self.kind], literal, {self.kind: {"earlier": 0, "relative": math.inf}}, repeat=repeat))
        return panels

    def judge(self, value: float, step: int) -> list[Finding]:
        found = [f for panel in self.panels for f in panel.judge({self.name: value}, step)]
        return found[:1]  # two strategies about one value are one anomaly

    def remember(self, value: float, *, anomalous: bool) -> None:
        if math.isfinite(value):
            self._last = value
            if not anomalous:
                self._values.append(value)

    def standing(self, value: float) -> dict[str, float | None]:
        """The entries of threshold_info about this metric as it stood before `value`; None for what is not known yet."""
        values, short = list(self._values), "grad" if self.name == "grad_norm" else self.name
        middle = median(values) if len(values) >= LEAST else None
        mad = median(abs(v - middle) for v in values) if middle is not None else None
        threshold = self.fixed
        if threshold is None and middle is not None and mad is not None:
            threshold = middle + self.factor * MAD_TO_SIGMA * mad
        change = (value - self._last) / abs(self._last) if self._last else None  # NaN before the second value
        return {
            f"{self.name}_median": middle, f"{self.name}_mad": mad, f"{self.name}_threshold": threshold,
            f"{self.name}_mean": fmean(values) if values else None, f"{self.name}_std": pstdev(values) if values else None,
            f"relative_{short}_change": change if change is not None and math.isfinite(change) else None,
        }  # fmt: skip


def newest_checkpoint(directory: Path) -> str | None:
    """The name of the `checkpoint-N` with the highest number, or None."""
    try:
        numbers = [int(found[1]) for name in os.listdir(directory) if (found := _CHECKPOINT.fullmatch(name))]
    except OSError:
        return None
    return f"checkpoint-{max(numbers)}" if numbers else None


def _told(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind, "level": finding.severity, "strategy": finding.strategy, "message": finding.message,
        "advice": finding.advice, "value": finding.value, "threshold": finding.threshold, "baseline": finding.baseline,
    }  # fmt: skip
