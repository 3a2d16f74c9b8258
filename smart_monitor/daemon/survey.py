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
        if not run.trainer.seeks or run.outlook.hung:
            continue
        paths = followed(run)
        if not run.trainer.unnamed:
            run.trainer.survey(paths, None)
            continue
        # A status file is opened, written and closed: nobody holds it.
        real = [os.path.realpath(path) for path in paths if os.path.basename(path) != FILE_NAME]
        asked += real
        if (held := holders.of(real)) is not None:
            run.trainer.survey(real, held)
    holders.attend(asked)
    return figures({str(r.place.out): r.trainer.pid for r in runs})


def followed(run: Run) -> Sequence[str]:
    """The files that a run's eye reads."""
    return list(getattr(run.eye.source, "paths", ()))[:MOST] if run.eye is not None else []
