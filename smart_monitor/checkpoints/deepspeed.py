"""DeepSpeed: `global_stepN/` (or another tag) beside a file `latest` that names the last one saved.

Every rank writes its own shards in place. Rank 0 writes `latest` when its own are done, which may be before those of other
ranks are: so the shards of every rank are asked for as well, their number as the first shard tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary, step_in
from smart_monitor.checkpoints.content import content_missing
from smart_monitor.checkpoints.shards import is_zero, tag_missing

MARKER = "latest"
_NAME = re.compile(r"^global_step[0-9]{1,18}$")
_SIGNS = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")


class DeepSpeed:
    """`global_step1000/`, or a directory under another tag that holds shards of DeepSpeed."""

    name = "deepspeed"
    recognises = (
        "DeepSpeed",
        "`global_stepN/`, or another tag, and `latest`",
        "`latest` names it or a later one; the shards of every rank are there",
    )
    turn = 2

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if not is_temporary(name) and (_NAME.match(name) or folder.has(name, *_SIGNS)):
                yield folder.candidate(name, step_in(name))

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        if not said and not is_zero(candidate.tree.names()):
            said.append("no shard (mp_rank_*, zero_pp_rank_*) is there")
        return said + tag_missing(candidate.folder / MARKER, candidate.name)

    def proof(self, candidate: Candidate) -> str:
        return f"{MARKER} names it or a later one, and the shards of every rank are there and whole"


LAYOUT = DeepSpeed()
