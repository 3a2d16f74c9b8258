"""Lightning's `*.ckpt`: one zip archive of torch.save, or a directory of shards (FSDP, DeepSpeed, model parallel).

A file is written under $TMPDIR and moved: a rename where that is the same file system, a copy in place
where it is not, and then its zip directory is the last to come. `last.ckpt` may be a copy, or a link to its
neighbour, which is no checkpoint of its own. In a directory `meta.pt` is written after the shards, or
`checkpoint/` holds those of DeepSpeed. NeMo marks one it has not finished by a NAME-unfinished beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary, step_in
from smart_monitor.checkpoints.content import content_missing, weights_missing

SUFFIX = ".ckpt"
META = "meta.pt"


class Lightning:
    """`epoch=3-step=400.ckpt`, `last-v1.ckpt`, `epoch=3-step=400.ckpt/`."""

    name = "lightning"
    recognises = (
        "Lightning, NeMo",
        "`*.ckpt`, files and directories",
        "its zip directory, or its shards and `meta.pt`, are whole; no `-unfinished` beside it",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in (*folder.files, *folder.folders):
            if name.endswith(SUFFIX) and not is_temporary(name):
                step = step_in(name.removesuffix(SUFFIX))
                yield folder.candidate(name, step, single=name in folder.files)

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        names = candidate.tree.names()
        if any(n.endswith(".distcp") and "/" not in n for n in names) and META not in names:
            said.append(f"{META}, which is written after the shards, is missing")
        return said or ([] if candidate.single else weights_missing(candidate))

    def proof(self, candidate: Candidate) -> str:
        if candidate.single:
            return "its zip directory is whole, or it is of the old format that has none"
        return "every shard that its markers name is there and whole"


LAYOUT = Lightning()
