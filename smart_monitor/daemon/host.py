"""Host figures for ticks, by psutil, the cgroup and NVML: what else was going on when the run went wrong.

All of it is read on the thread of slow jobs: a hung mount or driver stops these figures, and nothing else.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import psutil

from smart_monitor.daemon import gpu
from smart_monitor.daemon.process import said

CGROUPS = "/sys/fs/cgroup"
_INACTIVE = re.compile(rb"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)
UNLIMITED = 1 << 60
"""Bytes from which a memory limit is none (version 1 of cgroups writes the largest number there is)."""


def figures(outs: Mapping[str, int | None]) -> Mapping[str, dict[str, float]]:
    """For each directory we write to, with the pid of its run's trainer or None: the host's figures, as ticks carry them.

    host_cpu_percent, host_memory_percent, host_swap_percent, disk_free_bytes; container_memory_percent where the cgroup of
    the trainer (or else ours) has a limit; and NVML's where it is installed. What can't be read is left out.
    """
    common = _common() | gpu.figures()
    groups: dict[str, float | None] = {}
    found: dict[str, dict[str, float]] = {}
    for out, pid in outs.items():
        mine = dict(common)
        try:
            mine["disk_free_bytes"] = float(psutil.disk_usage(out).free)
        except (OSError, psutil.Error):
            pass
        group = (memory_group(pid) if pid is not None else "") or memory_group(None)
        if group and group not in groups:
            groups[group] = group_percent(group)
        if group and (share := groups[group]) is not None:
            mine["container_memory_percent"] = share
        found[out] = mine
    return found


def _common() -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        found["host_cpu_percent"] = psutil.cpu_percent(None)
        found["host_memory_percent"] = psutil.virtual_memory().percent
        if _has_swap(int(time.monotonic() // 600)):
            found["host_swap_percent"] = psutil.swap_memory().percent
    except (OSError, psutil.Error, RuntimeError):
        pass
    return found


@lru_cache(maxsize=1)
def _has_swap(_: int) -> bool:
    """Asked anew every ten minutes: psutil goes through all of /proc/vmstat for it."""
    return psutil.swap_memory().total > 0


def memory_group(pid: int | None) -> str:
    """The directory of the memory cgroup of a process (None: of ours); empty if there is none that can be read."""
    try:
        return _directory(os.fsdecode(said(f"/proc/{'self' if pid is None else pid}/cgroup")).splitlines())
    except OSError:
        return ""


def _directory(lines: Iterable[str]) -> str:
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            places = (f"{CGROUPS}{path}", f"{CGROUPS}/unified{path}")
        elif "memory" in controllers.split(","):
            places = (f"{CGROUPS}/memory{path}", f"{CGROUPS}/memory")
        else:
            continue
        for place in places:
            if ".." not in place.split("/") and (_has(place, "memory.max") or _has(place, "memory.limit_in_bytes")):
                return place
    return ""


@lru_cache(maxsize=256)
def _has(place: str, name: str) -> bool:
    return os.path.exists(os.path.join(place, name))


def group_percent(place: str, root: str = CGROUPS) -> float | None:
    """What a cgroup uses of its memory limit, in per cent, without file pages that are free to go; None without a limit.

    A limit of a group further up holds as well. Which one does is looked for once a minute.
    """
    for group, limit, usage in _limited(place, root, int(time.monotonic() // 60)):
        most, used = _number(group, limit), _number(group, usage)
        if most and used is not None and most < UNLIMITED:
            return round(max(0.0, min(100.0, 100 * (used - _inactive(group)) / most)), 1)
    return None


@lru_cache(maxsize=256)
def _limited(place: str, root: str, _: int) -> Sequence[tuple[str, str, str]]:
    """The groups from `place` upwards that have a limit, with the names of the files that tell it and what is used."""
    found = []
    while place.startswith(f"{root}/"):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            if (_number(place, limit) or UNLIMITED) < UNLIMITED:
                found.append((place, limit, usage))
        place = os.path.dirname(place)
    return found


def _number(place: str, name: str) -> int | None:
    try:
        return int(said(f"{place}/{name}"))
    except (OSError, ValueError):
        return None  # "max"


def _inactive(place: str) -> int:
    """File pages that the kernel takes back before it ends anybody, in bytes."""
    try:
        found = _INACTIVE.search(said(f"{place}/memory.stat"))
        return int(found[1]) if found else 0
    except OSError:
        return 0
