"""Host figures for ticks, by psutil: what else was going on when the run went wrong."""

from __future__ import annotations

from pathlib import Path

import psutil


def figures(out: Path) -> dict[str, float]:
    """CPU and memory in per cent, free bytes where we write; what can't be read is left out."""
    found: dict[str, float] = {}
    try:
        found["host_cpu_percent"] = psutil.cpu_percent(None)
        found["host_memory_percent"] = psutil.virtual_memory().percent
        found["disk_free_bytes"] = float(psutil.disk_usage(str(out)).free)
    except (OSError, psutil.Error):
        pass
    return found
