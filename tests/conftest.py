"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from smart_monitor.snapshots.process import Worker

# How long an example takes says something of the machine's load and nothing of what is tested.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("loaded"), max_examples=40)


def pytest_configure(config: pytest.Config) -> None:
    """Where the slow tests are left out, properties are tried on fewer examples, and on others each time."""
    settings.load_profile("few" if "not slow" in config.option.markexpr else "loaded")


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
