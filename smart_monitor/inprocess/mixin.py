"""EnhancedTrainingMixin: gradient monitoring for a module of one's own, Lightning's or torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smart_monitor.inprocess.activations import ActivationMonitor
from smart_monitor.inprocess.gradient_health import GradientHealthMonitor
from smart_monitor.inprocess.loggers import is_logger

if TYPE_CHECKING:
    from torch import nn


class EnhancedTrainingMixin:
    """Stands before the module class:

        class Classifier(EnhancedTrainingMixin, LightningModule):
            def __init__(self):
                super().__init__()
                self.setup_gradient_monitoring(enable_gradient_monitoring=True, gradient_clip_threshold=1.0)
                self.layer = nn.Linear(8, 2)

            def on_after_backward(self):
                self.check_and_log_gradients(step=self.global_step, apply_clipping=True)

    `setup_gradient_monitoring` may come before any layer exists. With gradient accumulation call the check from
    `on_before_optimizer_step` instead: `on_after_backward` also comes after partial sums. Under mixed precision
    gradients are unscaled there, too.
    """

    grad_monitor: GradientHealthMonitor | None = None
    activation_monitor: ActivationMonitor | None = None
    _gradient_monitoring: bool = False
    _watch_activations: bool = False

    def setup_gradient_monitoring(
        self: Any,
        enable_gradient_monitoring: bool = True,
        gradient_clip_threshold: float = 1.0,
        vanishing_threshold: float = 1e-7,
        exploding_threshold: float = 100.0,
        log_frequency: int = 100,
        enable_detailed_logging: bool = False,
        enable_activation_monitoring: bool = False,
        logger: Any = None,
    ) -> None:
        """Make the monitor, `self.grad_monitor`; off, `check_and_log_gradients` does nothing.

        enable_activation_monitoring: `self.activation_monitor` counts dead and saturated units from the first check on.
        logger: by default the module's own, if it has one.
        """
        self._gradient_monitoring = enable_gradient_monitoring
        self._watch_activations = enable_gradient_monitoring and enable_activation_monitoring
        self.grad_monitor = GradientHealthMonitor(
            self,
            gradient_clip_threshold,
            vanishing_threshold,
            exploding_threshold,
            log_frequency,
            enable_detailed_logging,
            logger,
        )

    def check_and_log_gradients(self: Any, step: int | None = None, apply_clipping: bool = False) -> dict[str, Any]:
        """Look at the gradients, print and log what is due, and clip to gradient_clip_threshold if asked; what was seen.

        `stats["clipped"]` says whether it clipped. An empty dictionary where monitoring is off or was never set up.
        """
        monitor = self.grad_monitor
        if monitor is None or not self._gradient_monitoring:
            return {}
        stats = monitor.check_gradients()
        monitor.log_statistics(stats, step=step, logger=monitor.logger if monitor.logger is not None else _logger_of(self))
        stats["clipped"] = bool(apply_clipping and stats["global_grad_norm"] > monitor.grad_clip_threshold)
        if stats["clipped"]:
            monitor.apply_gradient_clipping()
        if self._watch_activations:
            if self.activation_monitor is None:
                self.activation_monitor = ActivationMonitor(self).start()
            else:
                stats["activations"] = self.activation_monitor.statistics()
                self.activation_monitor.start()
        return stats


def _logger_of(module: nn.Module) -> Any:
    """Lightning's logger of the module, if there is one that takes metrics."""
    try:
        logger = getattr(module, "logger", None)
    except RuntimeError:  # a Lightning module without a trainer
        return None
    return logger if is_logger(logger) else None
