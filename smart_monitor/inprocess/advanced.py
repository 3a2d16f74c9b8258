"""AdvancedAnomalyDetector: one call a training step, alerts back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from smart_monitor.inprocess.alerts import MAX_ALERTS, MAX_DAYS, AlertFile
from smart_monitor.inprocess.detectors import (
    BatchSizeImpactAnalyzer,
    ConvergenceTracker,
    GradientAnomalyDetector,
    LearningRateAnomalyDetector,
)
from smart_monitor.inprocess.numbers import scalar
from smart_monitor.inprocess.options import group, positive, refuse_unknown
from smart_monitor.inprocess.reward_health import RewardCalibrationDriftDetector
from smart_monitor.probe.capture import Capture, Limits

PARTS: dict[str, type] = {
    "gradient": GradientAnomalyDetector, "learning_rate": LearningRateAnomalyDetector, "batch_size": BatchSizeImpactAnalyzer,
    "convergence": ConvergenceTracker, "reward": RewardCalibrationDriftDetector,
}  # fmt: skip


class AdvancedAnomalyDetector:
    """Judges gradients, learning rate, batch size, convergence and rewards of a training loop, at every step.

        detector = AdvancedAnomalyDetector("results", gradient={"explosion_threshold": 5.0})
        alerts = detector.analyze_training_step(model, optimizer, loss.item(), batch_size)

    Options are given by group; what each takes is the signature of its part (`GradientAnomalyDetector` …), and an
    unknown one is refused with the nearest name. Alerts (see `alert_of`) are also appended to output_dir/alerts.jsonl,
    at most `max_alerts` and none older than `max_days`. What is still the same trouble is told once, with `repeat`
    at every step. Given a `batch`, a step that raises an alert is kept with it under
    output_dir/anomalies, to be run again.

    Raises ValueError or TypeError, one sentence, for options that mean nothing.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        gradient: Mapping[str, Any] | None = None,
        learning_rate: Mapping[str, Any] | None = None,
        batch_size: Mapping[str, Any] | None = None,
        convergence: Mapping[str, Any] | None = None,
        reward: Mapping[str, Any] | None = None,
        repeat: bool = False,
        rank: int = 0,
        max_alerts: int = MAX_ALERTS,
        max_days: float = MAX_DAYS,
        limits: Limits | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(unknown, [*PARTS, "repeat", "rank", "max_alerts", "max_days", "limits"], "AdvancedAnomalyDetector")
        positive(max_alerts=max_alerts, max_days=max_days)
        given = {"gradient": gradient, "learning_rate": learning_rate, "batch_size": batch_size,
                 "convergence": convergence, "reward": reward}  # fmt: skip
        made = {name: part(**group(given[name], part, name), repeat=repeat) for name, part in PARTS.items()}
        self.output_dir, self.rank = Path(output_dir), int(rank)
        self.gradient: GradientAnomalyDetector = made["gradient"]
        self.learning_rate: LearningRateAnomalyDetector = made["learning_rate"]
        self.batch_size: BatchSizeImpactAnalyzer = made["batch_size"]
        self.convergence: ConvergenceTracker = made["convergence"]
        self.reward: RewardCalibrationDriftDetector = made["reward"]
        self.file = AlertFile(self.output_dir, int(max_alerts), max_days)
        self.counts: dict[str, int] = {}
        """Alerts so far, by category."""
        self._capture = Capture(self.output_dir, self.rank, limits)
        self._step = -1

    def analyze_training_step(
        self,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        loss: float | Tensor | None = None,
        batch_size: int | None = None,
        *,
        step: int | None = None,
        rewards: Any = None,
        chosen_rewards: Any = None,
        rejected_rewards: Any = None,
        batch: Any = None,
        rng: Mapping[str, Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Alerts about this step; call it after backward and before the gradients are zeroed.

        What is not given is not judged. `step` counts up from the last one if it is not given. rewards: of this step's
        samples; chosen_rewards and rejected_rewards: of its pairs, in the same order. `batch`, and `rng` from
        before the forward pass (`rng_state()`), are kept if there is an alert.
        """
        self._step = self._step + 1 if step is None else int(step)
        now, alerts = self._step, []
        value = None if loss is None else scalar(loss)
        if model is not None:
            alerts += self.gradient.analyze_gradients(model, now)
        if optimizer is not None:
            alerts += self.learning_rate.analyze_learning_rate(optimizer, now)
        if value is not None:
            alerts += self.convergence.analyze_convergence(value, now)
            if batch_size is not None:
                alerts += self.batch_size.analyze_batch_impact(batch_size, value, now)
        if rewards is not None or chosen_rewards is not None or rejected_rewards is not None:
            alerts += self.reward.analyze_reward_drift(
                now, rewards=rewards, chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards
            )
        if alerts:
            self._keep(alerts, now, value, batch, rng)
        return alerts

    def _keep(
        self, alerts: list[dict[str, Any]], step: int, loss: float | None, batch: Any, rng: Mapping[str, Tensor] | None
    ) -> None:
        for alert in alerts:
            self.counts[alert["category"]] = self.counts.get(alert["category"], 0) + 1
        self.file.append({"rank": self.rank, **alert} for alert in alerts)
        if batch is not None:
            last = self.gradient.last
            self._capture.save(
                step, loss=loss, grad_norm=last.total if last is not None else None, batch=batch, rng=rng,
                record={"step": step, "loss": loss, "grad_norm": last.total if last is not None else None, "alerts": alerts},
                reason="_".join(dict.fromkeys(alert["kind"] for alert in alerts)),
            )  # fmt: skip

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until what was kept is on the disk, for `timeout` seconds at most; is it?"""
        return self._capture.flush(timeout) and not self.file.trouble

    def summary(self) -> dict[str, Any]:
        """Alerts so far by category, how the loss runs, the last reports on rewards."""
        return {"alerts": dict(self.counts), **self.convergence.metrics(), "reward": dict(self.reward.reports)}
