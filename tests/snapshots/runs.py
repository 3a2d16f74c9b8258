"""Driving a real store with a real worker in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.model import Checkpoint, Decision
from smart_monitor.snapshots.intents import Intent
from smart_monitor.snapshots.job import Choice
from smart_monitor.snapshots.store import Store, StoreEvent
from tests.waiting import PATIENCE

ROOMY = Settings(min_free_gb=0.0, min_free_percent=0.0, spare_checkpoints=0.0)
"""For disks of tests, which are nearly full as often as not."""
STATUS = b'{"current_step": 600, "loss": NaN}  \n'
METADATA: dict[str, Any] = {
    "run": "r", "attempt": 1, "step": 600, "onset_step": 590, "loss": 1.0234, "accuracy": 58.3, "learning_rate": 2e-4,
    "triggers": ["loss_spike_37.8pct"], "loss_history": [0.74, float("nan"), 1.0234], "accuracy_history": [75.0, 58.3],
    "best_loss": 0.6987, "best_loss_step": 550, "findings": [{"kind": "loss_spike"}], "monitor": {"version": "1", "config": {}},
}  # fmt: skip


def decision(name: str = "one", reason: str = "loss_spike_37.8pct") -> Decision:
    return Decision(f"r:status:0:1:3:{name}", "r", 0, 1, 3, 600, 590, reason, ("loss_spike",), (reason,), "warning", (), {})


def complete(base: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, looked at two seconds from now so that nothing has to wait."""
    shelf = Shelf(base)
    shelf.scan(time.time() + 2)
    return shelf.newest(None, 0)


def chosen(base: Path) -> Callable[[Intent], Choice]:
    """What a daemon would choose: looked up anew each time, as the store asks for it."""

    def choose(intent: Intent) -> Choice:
        shelf = Shelf(base)
        shelf.scan(time.time() + 2)
        return Choice(checkpoint=shelf.newest(None, 0), model=shelf.model_files())

    return choose


class Clock:
    """Unix seconds that pass `speed` times as fast, so that a test need not sit out a minute of retries."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed, self._start = speed, time.time()

    def __call__(self) -> float:
        return self._start + (time.time() - self._start) * self._speed


def drive(store: Store, choose: Callable[[Intent], Choice], *, speed: float = 1.0, limit: float = PATIENCE) -> list[StoreEvent]:
    """Pump until nothing is left to do; everything that was told."""
    clock, events = Clock(speed), list[StoreEvent]()
    deadline = time.monotonic() + limit
    while store.busy:
        assert time.monotonic() < deadline, "the store is still busy"
        events += store.pump(clock(), choose)
        time.sleep(0.003)
    return events


def snapshot(out: Path, base: Path, name: str = "one", reason: str = "loss_spike_37.8pct") -> Path:
    """One snapshot of what lies in `base`; its path."""
    store = Store(out, ROOMY)
    store.begin(decision(name, reason), METADATA, STATUS, time.time())
    [event] = drive(store, chosen(base))
    store.stop(1)
    assert event.state == "published"
    return out / "snapshots" / event.name
