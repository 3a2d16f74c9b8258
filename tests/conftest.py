"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from smart_monitor.snapshots.process import Worker

# How long an example takes says something of the machine's load and nothing of what is tested.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("loaded"), max_examples=40)
settings.register_profile("same", settings.get_profile("loaded"), derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried on other examples each time, but with --all: what that says of a commit, it says every time.

    Where the slow tests are left out the examples are few; scripts/explore tries thousands.
    """
    examples = os.environ.get("SMART_MONITOR_EXAMPLES")
    if examples:
        settings.register_profile("many", settings.get_profile("loaded"), max_examples=int(examples))
    settings.load_profile("many" if examples else "few" if "not slow" in config.option.markexpr else "same")


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
