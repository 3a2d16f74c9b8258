"""Events of a training loop, and the detector as one of their listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smart_monitor.inprocess.advanced import AdvancedAnomalyDetector
from smart_monitor.inprocess.options import refuse_unknown

EVENTS = ("train_start", "step_start", "step_end", "epoch_end", "train_end", "alert")
Listener = Callable[..., Any]


class ProfilerHooks:
    """Listeners by event: train_start, step_start, step_end, epoch_end, train_end, and alert.

    A listener that raises is told in `errors` and asked no more; training goes on.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {event: [] for event in EVENTS}
        self.errors: list[str] = []

    def register(self, event: str, listener: Listener) -> Listener:
        """Call `listener` with the keyword arguments of each `trigger` of `event`. Raises ValueError for an unknown event."""
        refuse_unknown([event], EVENTS, "ProfilerHooks")
        self._listeners[event].append(listener)
        return listener

    def remove(self, event: str, listener: Listener) -> None:
        """Call it no more; nothing happens if it was not called."""
        refuse_unknown([event], EVENTS, "ProfilerHooks")
        if listener in self._listeners[event]:
            self._listeners[event].remove(listener)

    def trigger(self, event: str, **facts: Any) -> list[Any]:
        """Call the listeners of `event` in the order they came; what they returned."""
        refuse_unknown([event], EVENTS, "ProfilerHooks")
        found = []
        for listener in list(self._listeners[event]):
            try:
                found.append(listener(**facts))
            except Exception as error:  # a listener is not the training
                self.errors.append(f"{event}: {type(error).__name__}: {error}")
                self._listeners[event].remove(listener)
        return found


class AnomalyDetectionHook:
    """An AdvancedAnomalyDetector at the end of every step.

        hooks = ProfilerHooks()
        AnomalyDetectionHook("results").attach(hooks)
        ...
        hooks.trigger("step_end", model=model, optimizer=optimizer, loss=loss.item(), batch_size=32)

    Or call the hook itself with the same arguments. `alerts` holds the last step's; `on_alert` is called with each.
    """

    def __init__(
        self, detector: AdvancedAnomalyDetector | str, *, on_alert: Callable[[dict[str, Any]], Any] | None = None, **options: Any
    ) -> None:
        """`detector`: one, or the output directory of a new one with `options`."""
        if isinstance(detector, AdvancedAnomalyDetector):
            refuse_unknown(options, [], "AnomalyDetectionHook with a detector")
            self.detector = detector
        else:
            self.detector = AdvancedAnomalyDetector(detector, **options)
        self.on_alert = on_alert
        self.alerts: list[dict[str, Any]] = []
        self._hooks: ProfilerHooks | None = None

    def attach(self, hooks: ProfilerHooks) -> AnomalyDetectionHook:
        """Listen to `step_end`, and pass alerts on as `alert` events (keyword `alert`)."""
        hooks.register("step_end", self)
        self._hooks = hooks
        return self

    def __call__(self, **facts: Any) -> list[dict[str, Any]]:
        """What `analyze_training_step` takes, by name; facts it does not take are left out."""
        known = (
            "model",
            "optimizer",
            "loss",
            "batch_size",
            "step",
            "rewards",
            "chosen_rewards",
            "rejected_rewards",
            "batch",
            "rng",
        )
        self.alerts = self.detector.analyze_training_step(**{name: facts[name] for name in known if name in facts})
        for alert in self.alerts:
            if self.on_alert is not None:
                self.on_alert(alert)
            if self._hooks is not None:
                self._hooks.trigger("alert", alert=alert)
        return self.alerts
