"""Host figures for ticks, by psutil: what else was going on when the run went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psutil


def figures(outs: Iterable[str]) -> Mapping[str, dict[str, float]]:
    """For each directory we write to: CPU and memory of the host in per cent, bytes free. What can't be read is left out."""
    common: dict[str, float] = {}
    try:
        common["host_cpu_percent"] = psutil.cpu_percent(None)
        common["host_memory_percent"] = psutil.virtual_memory().percent
    except (OSError, psutil.Error):
        pass
    found: dict[str, dict[str, float]] = {}
    for out in outs:
        try:
            found[out] = common | {"disk_free_bytes": float(psutil.disk_usage(out).free)}
        except (OSError, psutil.Error):
            found[out] = dict(common)
    return found
