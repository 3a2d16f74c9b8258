"""The survey of every poll interval: host figures, and where the trainers' processes are. On the thread of slow jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from smart_monitor.daemon.holders import Holders
from smart_monitor.daemon.host import figures, memory_group
from smart_monitor.rules import ELSEWHERE
from smart_monitor.rules.disk_low import GIB, TIMES, DiskLow
from smart_monitor.rules.memory_growth import HOST, MemoryGrowth
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
    found = figures({str(r.place.out): r.trainer.pid for r in runs})
    tell_once(runs, found)
    return found


def tell_once(runs: Sequence[Run], found: Mapping[str, dict[str, float]]) -> None:
    """Mark in the figures what an earlier run alarms of: one full disk is one alarm, however many runs write to it.

    It stands in the tick, so that replay says the same. A run with a limit of its own alarms for itself; one that hangs, or
    whose rule is disabled, for nobody.
    """
    told: set[tuple[object, ...]] = set()
    for run in runs:
        values = found.get(str(run.place.out))
        if values is None or run.outlook.hung:
            continue
        for name, what in list(_alarming(run, values)):
            if what in told:
                values[name + ELSEWHERE] = 1.0
            told.add(what)


def _alarming(run: Run, values: Mapping[str, float]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """(name, what) of the figures that the run's rules alarm of: which disk, host or container it is, and the limit."""
    settings = run.settings
    free, least = values.get("disk_free_bytes"), TIMES * settings.min_free_gb * GIB
    if DiskLow.kind not in settings.disabled_rules and free is not None and free < least:
        try:
            yield "disk_free_bytes", (os.stat(run.place.out).st_dev, least)
        except OSError:
            pass
    if MemoryGrowth.kind not in settings.disabled_rules:
        for name in HOST:
            if values.get(name, 0.0) > settings.memory_limit:
                group = memory_group(run.trainer.pid) or memory_group(None) if name.startswith("container") else ""
                yield name, (name, group, settings.memory_limit)


def followed(run: Run) -> Sequence[str]:
    """The files that a run's eye reads."""
    return list(getattr(run.eye.source, "paths", ()))[:MOST] if run.eye is not None else []
