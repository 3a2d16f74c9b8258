"""Where trainers put their checkpoints: BASE/current_model/, BASE itself, and the folders they make below it.

Bounded in depth, in breadth and in all, and by name where BASE holds other things than the model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from smart_monitor.checkpoints import ANYONES, Layout
from smart_monitor.checkpoints.candidate import Candidate, Folder, is_ours

MAX_BELOW = 4
"""Levels below BASE: lightning_logs/version_3/checkpoints/ is three of them."""
MAX_CHILDREN = 8
MAX_PLACES = 32
MAX_NAMES_BELOW = 4000

_KNOWN = re.compile(
    r"^(?:checkpoints?|ckpts?|chkpts?|backups?|models?|weights|saves?|saved_models?|out|outputs?|results?|experiments?|exp|artifacts"
    r"|work_dirs?|train|training|trainer_output|tmp_trainer|lightning_logs|tb_logs|csv_logs|nemo_experiments|version_[0-9]+"
    r"|.*[-_](?:out|outputs?|ckpts|checkpoints))$",
    re.IGNORECASE,
)
_NEVER = re.compile(
    r"^(?:\..*|_.*|data|datasets?|cache|wandb|mlruns|runs|events?|eval.*|tests?|images?|samples?|media|venv|src|env|node_modules|.*\.monitor)$",
    re.IGNORECASE,
)

Found = dict[str, tuple[Layout, Candidate]]


def found_in(folder: Folder, layouts: Sequence[Layout]) -> Found:
    """The candidates of one folder by name, each with the first layout that takes it."""
    found: Found = {}
    for layout in layouts:
        mine = {candidate.name: (layout, candidate) for candidate in layout.find(folder)}
        if mine:
            found |= mine
            folder = folder.without(mine)
    return found


def places(base: Path, layouts: Sequence[Layout]) -> tuple[list[tuple[Folder, Found]], list[str]]:
    """The folders that may hold checkpoints with what they hold, the nearest first; and what could not be looked at."""
    tops = [os.path.realpath(p) for p in (base / "current_model", base)]
    queue = [(path, 0) for path in dict.fromkeys(tops) if os.path.isdir(path)]
    known = {path for path, _ in queue}
    read: list[tuple[Folder, Found]] = []
    problems: list[str] = []
    while queue and len(read) < MAX_PLACES:
        path, depth = queue.pop(0)
        try:
            folder = Folder.read(Path(path), MAX_NAMES_BELOW) if depth else Folder.read(Path(path))
        except OSError as error:
            problems.append(f"{path}: it can't be looked at ({error.strerror})")
            continue
        found = found_in(folder, layouts)
        read.append((folder, found))
        if depth < MAX_BELOW:
            for child in _children(folder, found, depth):
                if child not in known:
                    known.add(child)
                    queue.append((child, depth + 1))
    return _without_folders_of_checkpoints(read), problems


def _children(folder: Folder, found: Found, depth: int) -> list[str]:
    """Folders to look into, the last changed first: of known names where other things lie, below them any that is none's."""
    inside = [n for n in folder.folders if (_KNOWN.match(n) if depth == 0 or n in found else not _NEVER.match(n))]
    # What is a checkpoint by more than the look of its name is no folder of checkpoints.
    inside = [n for n in inside if n not in found or (found[n][0].turn == ANYONES and found[n][1].step is None)]
    paths = [p for p in (os.path.realpath(folder.path / n) for n in inside) if not is_ours(os.path.basename(p))]
    if len(paths) > MAX_CHILDREN:
        paths = sorted(paths, key=_changed, reverse=True)[:MAX_CHILDREN]
    return paths


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _without_folders_of_checkpoints(read: list[tuple[Folder, Found]]) -> list[tuple[Folder, Found]]:
    """A folder `checkpoint/` that holds several of them is none itself, whatever its name."""
    holding = {str(folder.path) for folder, found in read if any(c.step is not None for _, c in found.values())}
    for _, found in read:
        for name, (_, candidate) in list(found.items()):
            if candidate.step is None and not candidate.single and os.path.realpath(candidate.path) in holding:
                del found[name]
    return read
