"""The survey of every poll interval: host figures, and where the trainers' processes are. On the thread of slow jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smart_monitor.daemon.holders import Holders
from smart_monitor.daemon.host import figures
from smart_monitor.sources.status_json import FILE_NAME

if TYPE_CHECKING:
    from smart_monitor.daemon.run import Run

MOST = 64
"""Files of one run that are asked about."""


def survey(runs: Sequence[Run], holders: Holders) -> Mapping[str, dict[str, float]]:
    """The figures of each run's tick, by the directory it writes to."""
    asked: list[str] = []
    for run in runs:
        if run.trainer.seeks and not run.outlook.hung:
            paths = [os.path.realpath(path) for path in followed(run)]
            run.trainer.survey(paths, holders.of(paths))
            # A status file is opened, written and closed: nobody holds it.
            asked += [p for p in paths if run.trainer.unnamed and os.path.basename(p) != FILE_NAME]
    holders.attend(asked)
    return figures({str(r.place.out): r.trainer.pid for r in runs})


def followed(run: Run) -> Sequence[str]:
    """The files that a run's eye reads."""
    return list(getattr(run.eye.source, "paths", ()))[:MOST] if run.eye is not None else []
