"""Slow jobs on a thread of their own: host figures, once every poll interval."""

from __future__ import annotations

import logging
from collections.abc import Callable

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

# apscheduler logs every late job through logging's last resort; what matters of it, our own log says.
logging.getLogger("apscheduler").addHandler(logging.NullHandler())
logging.getLogger("apscheduler").propagate = False


class Schedule:
    """Runs `job` every `seconds`. A scheduler that stops silently is noticed by who waits for its ticks."""

    def __init__(self, job: Callable[[], None], seconds: float) -> None:
        self._job = job
        self._start(seconds)

    def restart(self, seconds: float) -> None:
        self.close()
        self._start(seconds)

    def close(self) -> None:
        self._scheduler.shutdown(wait=False)

    def _start(self, seconds: float) -> None:
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1)},
            # One late tick is worth more than none; two at once are worth no more than one.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone="UTC",
        )
        self._scheduler.add_job(self._job, "interval", seconds=seconds)
        self._scheduler.start()
