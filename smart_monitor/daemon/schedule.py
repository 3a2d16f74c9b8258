"""Slow jobs, off the main thread: host figures, once every poll interval, and, by apscheduler, the daily call for retention.

The figures have a plain thread: for so frequent a job, apscheduler's own work would cost more than the figures do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

# apscheduler logs every late job through logging's last resort; what matters of it, our own log says.
logging.getLogger("apscheduler").addHandler(logging.NullHandler())
logging.getLogger("apscheduler").propagate = False

SETTLE = 60.0
"""Seconds after a start before the daily job runs for the first time: at a start there is enough to do."""


class Schedule:
    """Runs `job` every `seconds`, `daily` every `hours`. One that stops silently is noticed by who waits for its ticks."""

    def __init__(
        self, job: Callable[[], None], seconds: float, daily: Callable[[], None] | None = None, hours: float = 24.0
    ) -> None:
        self._job, self._daily, self._hours = job, daily, hours
        self.hanging = False
        """Has a run of the job begun that has not ended?"""
        self._start(seconds)

    def restart(self, seconds: float) -> None:
        """Begin anew, but not beside a job that hangs: its threads would pile up."""
        if not self.hanging:
            self.close()
            self._start(seconds)

    def close(self) -> None:
        """End it, whether it lives or not; nothing is waited for."""
        self._ended.set()
        if self._scheduler is not None:
            try:
                self._scheduler.shutdown(wait=False)
            except SchedulerNotRunningError:
                pass  # it has ended by itself

    def _start(self, seconds: float) -> None:
        self._ended = threading.Event()
        self.ticker = threading.Thread(target=self._tick, args=(self._ended, seconds), name="host", daemon=True)
        self.ticker.start()
        self._scheduler = None if self._daily is None else self._begun(self._daily)

    def _tick(self, ended: threading.Event, seconds: float) -> None:
        due = time.monotonic() + seconds
        while not ended.wait(max(0.0, due - time.monotonic())):
            self.hanging = True
            try:
                self._job()
            finally:
                self.hanging = False
            # One late tick is worth more than none; two at once are worth no more than one.
            due = max(due + seconds, time.monotonic())

    def _begun(self, daily: Callable[[], None]) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone="UTC",
        )
        first = datetime.now(UTC) + timedelta(seconds=min(SETTLE, self._hours * 3600))
        # A trigger and not its name: the name would be looked up among all that is installed.
        scheduler.add_job(daily, IntervalTrigger(hours=self._hours, start_date=first, timezone="UTC"))
        scheduler.start()
        return scheduler
