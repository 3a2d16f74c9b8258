"""What a deletion has left: a rotation that was killed, or is at work, may leave a directory that looks whole.

A trainer rotates by rmtree, which unlinks in the order of the directory: any file may be the last that stands, the marker
among them. Two things tell. One that was seen whole has lost a file since, and nothing in it was written anew. Or something
was unlinked from it after all that stands was written or put there (an unlinking is the one change that gives a directory a
later time stamp than anything in it), and its like beside it have a file that it lacks. Neither alone is enough for one that
is seen for the first time: another size of the world or a save of the model only lack files as well, and an editor removes
its swap file where nothing is lacking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from smart_monitor.checkpoints.candidate import Candidate, shown

KIN = 3
"""Candidates of the same family, the nearest by step, that show what one of it consists of."""
_RANDOM = re.compile(r"(?=[0-9a-f]*[0-9])[0-9a-f]{8,}|[0-9]{6,}")
_HASH = re.compile(r"[0-9a-f]{32,}")
_NUMBER = re.compile("[0-9]+")


def remains(candidate: Candidate, usual: Iterable[str] = ()) -> list[str]:
    """Why the candidate is what a deletion has left, three clauses at most; empty if nothing tells so.

    `usual` are names of which its writers always leave each (`a|b`: one of them): they stand for its like where it has none
    beside it.
    """
    if candidate.gone:
        return [f"{shown(name)} is gone since it was complete: it was or is being deleted" for name in candidate.gone[:3]]
    if not candidate.tree.removed or not candidate.tree.files:
        return []
    mine = candidate.tree.names() | {name for name, _ in candidate.tree.external}
    shapes = {_shape(name) for name in mine}
    lacking = {
        name: f"{shown(other.name)} has it"
        for other in candidate.kin[::-1]
        for theirs in other.tree.names()
        if theirs not in mine and _shape(name := _as_of(theirs, other.step, candidate.step)) not in shapes
    }
    lacking = {name: why for name, why in lacking.items() if _was_deleted_from(candidate.tree.removed, mine, name)}
    if not candidate.kin and "" in candidate.tree.removed:
        tops = {name.partition("/")[0] for name in mine}
        lacking = {name: "its writer leaves one" for name in usual if tops.isdisjoint(name.split("|"))}
    said = [
        f"{shown(name.replace('|', ' or '))} is missing ({why}) and something was deleted from it after it was written"
        for name, why in sorted(lacking.items())
    ]
    # How many there should be of what is named for its content, nobody else knows; nor does its writer delete any.
    hashed = {name.rpartition("/")[0] for name in mine if _HASH.fullmatch(name.rpartition("/")[2])}
    said += [
        f"something was deleted from {shown(folder)} after it was written" for folder in sorted(hashed & candidate.tree.removed)
    ]
    return said[:3]


def find_kin(found: Iterable[Candidate]) -> None:
    """Give each of the directories that one layout found in one folder its nearest kin: names alike but for the numbers.

    Of what was deleted from too no one knows what it consisted of.
    """
    families: dict[str, list[Candidate]] = {}
    for candidate in found:
        if not candidate.single:
            families.setdefault(_NUMBER.sub("#", candidate.name), []).append(candidate)
    for family in families.values():
        for candidate in family:
            if candidate.tree.removed:
                others = [c for c in family if c is not candidate and not c.tree.removed]
                candidate.kin = tuple(sorted(others, key=partial(_apart, candidate))[:KIN])


def _apart(one: Candidate, other: Candidate) -> int:
    """Steps between two candidates."""
    return abs((one.step or 0) - (other.step or 0))


def _was_deleted_from(removed: set[str], names: set[str], name: str) -> bool:
    """Was something deleted from the folder that `name` would lie in, or from the one that this folder would lie in?"""
    folder = name.rpartition("/")[0]
    while folder and folder not in removed and not any(other.startswith(f"{folder}/") for other in names):
        folder = folder.rpartition("/")[0]
    return folder in removed


def _as_of(name: str, step: int | None, mine: int | None) -> str:
    """The name with the step of another in it as it is in mine: `global_step100/x` of checkpoint-100 is `global_step200/x`."""
    if step is None or mine is None:
        return name
    return _NUMBER.sub(lambda m: str(mine).zfill(len(m[0])) if len(m[0]) <= 18 and int(m[0]) == step else m[0], name)


def _shape(name: str) -> str:
    """The name without what is never the same twice: hashes, times, long numbers; those of ranks and shards stay."""
    return _RANDOM.sub("#", name)
