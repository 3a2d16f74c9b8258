"""torch.distributed.checkpoint (FSDP, torchtitan, NeMo 2): any directory of `__R_k.distcp` shards and their `.metadata`.

Every rank writes its shards in place; after the last one `.metadata.tmp` is written, synced and renamed. A save over an older
one uses the same names again and leaves the old `.metadata` standing meanwhile: a shard newer than it tells. NeMo has the
shards in `weights/` and keeps a NAME-unfinished beside the directory until all is written.
"""

from __future__ import annotations

from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary
from smart_monitor.checkpoints.content import content_missing
from smart_monitor.checkpoints.model_directory import step_of_directory

_SIGNS = (".metadata", "__0_0.distcp", "weights/.metadata", "weights/__0_0.distcp")


class Dcp:
    """A directory under any name that holds shards or their description."""

    name = "dcp"
    recognises = (
        "torch DCP, FSDP, NeMo",
        "any directory of `*.distcp` and `.metadata`",
        "`.metadata` is not older than any shard, and every one it names is there",
    )
    turn = 4

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if not is_temporary(name) and folder.has(name, *_SIGNS):
                yield folder.candidate(name, step_of_directory(name))

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        if not said and not any(name.endswith(".distcp") for name in candidate.tree.names()):
            said.append("no shard (*.distcp) is there")
        return said

    def proof(self, candidate: Candidate) -> str:
        return ".metadata is not older than any shard, and every shard it names is there"


LAYOUT = Dcp()
