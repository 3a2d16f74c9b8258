"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from smart_monitor.snapshots.process import Worker

# How long an example takes says something of the machine's load and nothing of what is tested.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")


@pytest.fixture(autouse=True)
def workers_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that fails half-way leaves its copying process to nobody: it would fail another test later."""
    started: list[Worker] = []
    start = Worker.__init__

    def remember(self: Worker, *given: Any, **named: Any) -> None:
        start(self, *given, **named)
        started.append(self)

    monkeypatch.setattr(Worker, "__init__", remember)
    yield
    for worker in started:
        if worker.poll() is None:
            worker.abandon()
