"""Megatron-LM and Megatron Core: `iter_0000123/` and `release/` beside `latest_checkpointed_iteration.txt`.

Two formats. `torch_dist`: `common.pt`, shards as of torch.distributed.checkpoint, and last of all `metadata.json`.
The older `torch`: `mp_rank_TT[_PPP[_EEE]]/model_optim_rng.pt` of every tensor, pipeline and expert rank, written in place;
only the tracker, written after a barrier, tells that all have finished.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

from smart_monitor.checkpoints.candidate import Candidate, Folder
from smart_monitor.checkpoints.checks import short_text
from smart_monitor.checkpoints.content import content_missing, marker_missing
from smart_monitor.checkpoints.shards import first_three

TRACKER = "latest_checkpointed_iteration.txt"
MARKER = "metadata.json"
_NAME = re.compile(r"^iter_([0-9]{7,18})$")
_RANK = re.compile(r"^mp_rank_([0-9]{2,5})(?:_([0-9]{3,5}))?(?:_([0-9]{3,5}))?/([^/]+)$")


class Megatron:
    """`iter_0000123/`; `release/` only beside a tracker."""

    name = "megatron"
    recognises = (
        "Megatron",
        "`iter_0000123/`, `release/`",
        "`metadata.json` and every shard of `.metadata`; or `latest_checkpointed_iteration.txt` and every `mp_rank_*`",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if match := _NAME.match(name):
                yield folder.candidate(name, int(match.group(1)))
            elif name == "release" and TRACKER in folder.files:
                yield folder.candidate(name, None)

    def missing(self, candidate: Candidate) -> list[str]:
        said, names = content_missing(candidate), candidate.tree.names()
        if any(name.endswith(".distcp") or name == "common.pt" for name in names):
            said += first_three("", {"common.pt", ".metadata"} - names - _told(said))
            return said + marker_missing(candidate, MARKER)
        return said + _ranks_missing(names) + _tracker_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        if MARKER in candidate.tree.names():
            return f"{MARKER} parses, and every shard that .metadata names is there"
        return f"{TRACKER} names it or a later one, and the files of every rank are there and whole"


def _told(said: list[str]) -> set[str]:
    return {".metadata"} if any(clause.startswith(".metadata") for clause in said) else set()


def _ranks_missing(names: set[str]) -> list[str]:
    """What one rank has written and another has not: every combination of the parallel dimensions saves the same files."""
    ranks: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        if match := _RANK.match(name):
            ranks.setdefault(tuple(g for g in match.groups()[:3] if g is not None), set()).add(match.group(4))
    if not ranks:
        return ["no mp_rank_*/model_optim_rng.pt is there"]
    files = set().union(*ranks.values())
    dimensions = max(len(rank) for rank in ranks)
    spans = [range(1 + max(int(rank[d]) for rank in ranks if len(rank) > d)) for d in range(dimensions)]
    if any(len(span) > 10_000 for span in spans) or len(spans) == 3:
        return first_three("", {f"{_folder(rank)}/{file}" for rank, have in ranks.items() for file in files - have})
    wanted = {(f"{rank[0]:02d}", *(f"{r:03d}" for r in rank[1:])) for rank in _bounded(product(*spans))}
    return first_three("", {f"{_folder(rank)}/{file}" for rank in wanted for file in files - ranks.get(rank, set())})


def _bounded(ranks: Iterable[tuple[int, ...]]) -> Iterable[tuple[int, ...]]:
    return (rank for rank, _ in zip(ranks, range(100_000), strict=False))


def _folder(rank: tuple[str, ...]) -> str:
    return f"mp_rank_{'_'.join(rank)}"


def _tracker_missing(candidate: Candidate) -> list[str]:
    named = short_text(candidate.folder / TRACKER)
    if named is None:
        return [f"{TRACKER}, which is written last, is missing"]
    later = candidate.step is not None and re.fullmatch("[0-9]{1,18}", named) and int(named) >= candidate.step
    return [] if later or named == candidate.name else [f"{TRACKER}, which is written last, still names {named or 'nothing'}"]


LAYOUT = Megatron()
