"""The directories that a pattern names: what may be a run of them."""

from __future__ import annotations

import glob
import os
import re
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from smart_monitor.daemon.place import HIDDEN

MOST = 10_000
"""Directories of one pattern that are looked at."""
LOOK = 5.0
"""Seconds that looking for them may take."""

_NO_RUN = re.compile(r"\..*|.*\.monitor|checkpoint-\d.*|anomaly_\d{8}_\d{6}_.*|current_model|snapshots|anomalies|status|holds")


class Named(NamedTuple):
    """What a pattern names now."""

    bases: list[Path]
    note: str
    """What was not looked at, in a sentence; empty if all was."""


def named(pattern: str) -> Named:
    """The directories that `pattern` names and that may be runs: nothing of ours, hidden, or a checkpoint. Raises no OSError."""
    deadline = time.monotonic() + LOOK
    found: list[Path] = []
    absolute = os.path.abspath(os.path.expanduser(pattern))
    for path in islice(glob.iglob(absolute + "/", recursive=True), MOST + 1):
        if len(found) >= MOST or time.monotonic() > deadline:
            return Named(sorted(found), f"{pattern} names too much: only {len(found)} directories of it are watched")
        base = Path(path)
        if not _NO_RUN.fullmatch(base.name) and not _is_ours(base):
            found.append(base)
    return Named(sorted(found), "")


def _is_ours(base: Path) -> bool:
    """Is it the directory of our logs, or within what is ours?"""
    if any(part == HIDDEN or part.endswith(".monitor") for part in base.parts):
        return True
    return base.name == "logs" and (base.parent / HIDDEN).is_dir()
