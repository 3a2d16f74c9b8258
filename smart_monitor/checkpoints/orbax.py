"""Orbax (JAX): `STEP/` of a CheckpointManager, or a directory under any name that holds `_CHECKPOINT_METADATA`.

Written under NAME.orbax-checkpoint-tmp and renamed. On object stores there is no rename: the final directory is filled, and
`commit_success.txt` comes last. `_CHECKPOINT_METADATA` is JSON, names the items and has a time of commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, shown
from smart_monitor.checkpoints.checks import json_object
from smart_monitor.checkpoints.content import beside, content_missing, weights_missing
from smart_monitor.checkpoints.model_directory import step_of_directory

TEMPORARY = ".orbax-checkpoint-tmp"
MARKER, COMMIT, ITEM = "_CHECKPOINT_METADATA", "commit_success.txt", "_METADATA"
_ANY = re.compile("")


class Orbax:
    """`100/`, `ckpt_5/`, and one still under its temporary name."""

    name = "orbax"
    recognises = (
        "Orbax",
        "`STEP/`, or any directory with `_CHECKPOINT_METADATA`",
        "no `.orbax-checkpoint-tmp` in its name; every item is there, `commit_success.txt` too if another one has it",
    )
    turn = 2

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if TEMPORARY in name:
                yield folder.candidate(name, step_of_directory(name.partition(TEMPORARY)[0]))
            elif folder.has(name, MARKER, ITEM, f"default/{ITEM}"):
                yield folder.candidate(name, step_of_directory(name))

    def missing(self, candidate: Candidate) -> list[str]:
        if TEMPORARY in candidate.name:
            return ["its name says that it is still being written"]
        said, names = content_missing(candidate), candidate.tree.names()
        if MARKER in names:
            said += _items_missing(candidate, names)
        if COMMIT not in names and COMMIT in beside(candidate, _ANY):
            said.append(f"{COMMIT}, which is written last, is missing")
        return said or weights_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "it bears its final name, and every item it names is there"


def _items_missing(candidate: Candidate, names: set[str]) -> list[str]:
    """What `_CHECKPOINT_METADATA` promises and is not there."""
    described = json_object(candidate.path / MARKER)
    if described is None:
        return [f"{MARKER} does not parse"]
    if "commit_timestamp_nsecs" in described and not described["commit_timestamp_nsecs"]:
        return [f"{MARKER} tells no time of commit"]
    items = described.get("item_handlers")
    there = {name.partition("/")[0] for name in names if "/" in name}
    absent = sorted(set(items) - there) if isinstance(items, dict) else []
    return [f"{shown(item[:80])} is missing (named in {MARKER})" for item in absent[:3]]


LAYOUT = Orbax()
