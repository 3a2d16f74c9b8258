"""The parts of AdvancedAnomalyDetector; each also works by itself.

A threshold that differs from its default is literal: what crosses it is told, from the first value on. At its default
a threshold counts only where the value also stands out from what the run is used to (the engine's noise guard); norms
that are always 30 are nothing to tell.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from smart_monitor.config import Settings
from smart_monitor.inprocess.alerts import alert_of
from smart_monitor.inprocess.measuring import Measure
from smart_monitor.inprocess.numbers import scalar
from smart_monitor.inprocess.options import positive
from smart_monitor.inprocess.panel import Panel, window_of
from smart_monitor.model import Finding
from smart_monitor.probe.gradients import Gradients

EXPLOSION, VANISHING, VARIANCE = 10.0, 1e-6, 1.0
UNHEARD = 10.0
"""Times the explosion threshold from which a norm is told though the run has no level yet."""
LITERAL_REARM = 10
"""Records below a literal threshold after which crossing it is told anew."""
BLOCKS = 20
"""Blocks that the plateau rule divides its window into."""
NAMED = 5
"""Layers named in an alert."""


class GradientAnomalyDetector:
    """Explosion, vanishing, non-finite values, growing scatter of the total gradient norm.

    window_size: norms looked back on; scatter is judged in blocks of a fifth of it. variance_threshold: coefficient of
    variation of a block from which it is told. `repeat`: tell a condition at every step it is true of.
    """

    def __init__(
        self,
        explosion_threshold: float = EXPLOSION,
        vanishing_threshold: float = VANISHING,
        variance_threshold: float = VARIANCE,
        window_size: int = 100,
        *,
        repeat: bool = False,
    ) -> None:
        positive(
            explosion_threshold=explosion_threshold, vanishing_threshold=vanishing_threshold,
            variance_threshold=variance_threshold, window_size=window_size,
        )  # fmt: skip
        self.explosion_threshold, self.vanishing_threshold = explosion_threshold, vanishing_threshold
        self.variance_threshold, self.window_size = variance_threshold, window_size
        self.last: Gradients | None = None
        """What the last call measured."""
        self._measure = Measure()
        window = window_of(window_size)
        guarded = Settings(
            gradient_explosion_threshold=explosion_threshold, gradient_vanishing_threshold=vanishing_threshold, loss_window=window
        )
        literal = Settings(
            noise_guard=False, spike_strategies=(), loss_window=window, gradient_explosion_threshold=explosion_threshold,
            fixed_grad_norm_threshold=explosion_threshold, gradient_vanishing_threshold=vanishing_threshold,
        )  # fmt: skip
        at_once: dict[str, Any] = {"earlier": 0, "records": 1, "rearm": LITERAL_REARM}
        explosion = {"gradient_explosion": {"unheard": UNHEARD * explosion_threshold}}
        if explosion_threshold != EXPLOSION:
            explosion = {"gradient_explosion": {"earlier": 0, "relative": math.inf, "rearm": LITERAL_REARM}}
        vanishing = {"gradient_vanishing": at_once}
        if vanishing_threshold != VANISHING:
            vanishing = {"gradient_vanishing": {**at_once, "share": math.inf}}
        block = max(4, window // 5)
        variance = {"gradient_variance": {"every": block, "least": variance_threshold}}
        self._panels = [
            Panel(explosion, literal if explosion_threshold != EXPLOSION else guarded, explosion, repeat=repeat),
            Panel(vanishing, guarded, vanishing, repeat=repeat),
            Panel(["nan", "update_frozen", *variance], guarded, variance, repeat=repeat),
        ]

    def analyze_gradients(self, model: nn.Module, step: int) -> list[dict[str, Any]]:
        """Alerts about the gradients that `model` holds now (after backward, before they are zeroed); none without gradients."""
        gradients = self.last = self._measure(model)
        if not gradients.norms:
            return []
        values = {
            "grad_norm": gradients.total, "has_nan": float(gradients.has_nan), "has_inf": float(gradients.has_inf),
        }  # fmt: skip
        return [self._alert(f, gradients) for panel in self._panels for f in panel.judge(values, step)]

    @staticmethod
    def _alert(finding: Finding, gradients: Gradients) -> dict[str, Any]:
        finite = {name: norm for name, norm in gradients.norms.items() if math.isfinite(norm)}
        if finding.kind == "nan":
            layers, where = list({**gradients.nan, **gradients.inf}), "in"
        else:
            where = "smallest in" if finding.kind == "gradient_vanishing" else "largest in"
            layers = sorted(finite, key=lambda name: finite[name], reverse=finding.kind != "gradient_vanishing")
        alert = alert_of(
            finding, "gradient", layers=layers[:NAMED], nan_elements=sum(gradients.nan.values()),
            inf_elements=sum(gradients.inf.values()), overflow=list(gradients.overflow[:NAMED]),
            zero=list(gradients.zero[:NAMED]), layer_norms={name: gradients.norms[name] for name in layers[:NAMED]},
        )  # fmt: skip
        if layers:
            alert["message"] += f" ({where} {layers[0]})"
        return alert


class LearningRateAnomalyDetector:
    """Rates out of range and sudden changes, for each parameter group.

    A rate below `min_lr` is told where the run begins with it or falls to it by a factor of 10 at once; a schedule that
    glides there only if it stays for `window_size` steps before 90 % of `total_steps`, where that is given.
    """

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        change_threshold: float = 0.3,
        window_size: int = 20,
        total_steps: int | None = None,
        *,
        repeat: bool = False,
    ) -> None:
        positive(
            min_lr=min_lr, max_lr=max_lr, change_threshold=change_threshold, window_size=window_size, total_steps=total_steps
        )
        if not min_lr < max_lr:
            raise ValueError(f"min_lr must be below max_lr, not {min_lr} and {max_lr}")
        self.min_lr, self.max_lr, self.change_threshold = min_lr, max_lr, change_threshold
        self.window_size, self.total_steps = window_size, total_steps
        self._settings = Settings(learning_rate_min=min_lr, learning_rate_max=max_lr, learning_rate_change=change_threshold)
        self._tuned: dict[str, dict[str, Any]] = {
            "learning_rate_range": {"records": window_size, "abrupt": 10.0}, "learning_rate_change": {"settled": 2},
        }  # fmt: skip
        self._repeat = repeat
        self._panels: dict[int, Panel] = {}

    def analyze_learning_rate(self, optimizer: Optimizer, step: int) -> list[dict[str, Any]]:
        """Alerts about the rates that the optimiser has now."""
        found = []
        for number, group in enumerate(optimizer.param_groups):
            panel = self._panels.get(number)
            if panel is None:
                panel = self._panels[number] = Panel(self._tuned, self._settings, self._tuned, repeat=self._repeat)
            rate = scalar(group["lr"])
            for finding in panel.judge({"learning_rate": rate}, step, total=self.total_steps):
                alert = alert_of(finding, "learning_rate", group=number)
                if number:
                    alert["message"] = f"parameter group {number}: {alert['message']}"
                found.append(alert)
        return found


class BatchSizeImpactAnalyzer:
    """The loss that moves when the batch size does.

    window_size: losses compared before and after the change. impact_threshold: the least relative change of their
    means, which must also be beyond four standard errors.
    """

    def __init__(self, impact_threshold: float = 0.05, window_size: int = 10, *, repeat: bool = False) -> None:
        positive(impact_threshold=impact_threshold, window_size=window_size)
        self.impact_threshold, self.window_size = impact_threshold, window_size
        tuned = {
            "batch_size_impact": {
                "window": max(3, int(window_size)),
                "share": impact_threshold,
                "earlier": max(3, int(window_size)),
            }
        }
        self._panel = Panel(tuned, Settings(loss_window=window_of(window_size)), tuned, repeat=repeat)

    def analyze_batch_impact(self, batch_size: int, loss: float, step: int) -> list[dict[str, Any]]:
        """Alerts about what a change of the batch size has done, `window_size` steps after it."""
        values = {"batch_size": scalar(batch_size), "loss": scalar(loss)}
        return [alert_of(f, "batch_size") for f in self._panel.judge(values, step)]


class ConvergenceTracker:
    """Divergence, spikes, non-finite losses, plateaus, instability.

    window_size: losses that a plateau is judged over (rounded to a multiple of 20; twice as many where noise hides it).
    plateau_threshold: the share of its level that the loss moves by at most in so many on a plateau. divergence_window,
    divergence_threshold: the window and the share of rising neighbours in it.
    """

    def __init__(
        self,
        plateau_threshold: float = 0.005,
        window_size: int = 200,
        divergence_threshold: float = 0.8,
        divergence_window: int = 10,
        *,
        repeat: bool = False,
    ) -> None:
        positive(
            plateau_threshold=plateau_threshold, window_size=window_size, divergence_threshold=divergence_threshold,
            divergence_window=divergence_window,
        )  # fmt: skip
        if not 0.5 <= divergence_threshold <= 1:
            raise ValueError(f"divergence_threshold must be between 0.5 and 1, not {divergence_threshold}")
        self.plateau_threshold, self.window_size = plateau_threshold, window_size
        self.divergence_threshold, self.divergence_window = divergence_threshold, divergence_window
        self._losses: deque[float] = deque(maxlen=int(window_size))
        every = max(1, round(window_size / BLOCKS))
        diverging = Settings(divergence_rising=divergence_threshold, loss_window=window_of(divergence_window))
        tuned = {"plateau": {"every": every, "still": plateau_threshold}}
        self._panels = [
            Panel(["divergence", "drift", "loss_spike", "nan"], diverging, repeat=repeat),
            Panel(["instability", *tuned], Settings(loss_window=window_of(every)), tuned, repeat=repeat),
        ]

    def analyze_convergence(self, loss: float, step: int) -> list[dict[str, Any]]:
        """Alerts about the course of the loss."""
        value = scalar(loss)
        if math.isfinite(value):
            self._losses.append(value)
        return [alert_of(f, "convergence") for panel in self._panels for f in panel.judge({"loss": value}, step)]

    def metrics(self) -> Mapping[str, float]:
        """How the loss runs over the window: `loss_trend` (least-squares slope a step), `convergence_rate` (share of its
        level that it has fallen by along that slope), `stability_score` (1 / (1 + coefficient of variation around the
        slope)). Empty below 3 losses.
        """
        losses = list(self._losses)
        n = len(losses)
        if n < 3:
            return {}
        mean, middle = math.fsum(losses) / n, (n - 1) / 2
        slope = math.fsum((i - middle) * v for i, v in enumerate(losses)) / math.fsum((i - middle) ** 2 for i in range(n))
        rest = math.sqrt(math.fsum((v - mean - slope * (i - middle)) ** 2 for i, v in enumerate(losses)) / n)
        unit = abs(mean) or 1.0
        return {
            "loss_trend": slope, "convergence_rate": -slope * (n - 1) / unit, "stability_score": 1 / (1 + rest / unit),
        }  # fmt: skip
