"""Slow jobs on a thread of their own: host figures, once every poll interval, and the daily call for retention."""

from __future__ import annotations

import logging
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
        try:
            self.scheduler.shutdown(wait=False)
        except SchedulerNotRunningError:
            pass  # it has ended by itself

    def _run(self) -> None:
        self.hanging = True
        self._job()
        self.hanging = False

    def _start(self, seconds: float) -> None:
        self.scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            # One late tick is worth more than none; two at once are worth no more than one.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone="UTC",
        )
        # A trigger and not its name: the name would be looked up among all that is installed.
        self.scheduler.add_job(self._run, IntervalTrigger(seconds=seconds, timezone="UTC"))
        if self._daily is not None:
            self._add_daily(self._daily)
        self.scheduler.start()

    def _add_daily(self, job: Callable[[], None]) -> None:
        first = datetime.now(UTC) + timedelta(seconds=min(SETTLE, self._hours * 3600))
        self.scheduler.add_job(job, IntervalTrigger(hours=self._hours, start_date=first, timezone="UTC"))
