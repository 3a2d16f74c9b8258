"""Plain `*.safetensors` files beside one another: each is a checkpoint, shards of one model are not.

Up to release 0.7 the writer fills the final name in place, from 0.8 on a `.tmpXXXXXX` that it renames;
the length that the header promises tells a whole file in both cases.
"""

from __future__ import annotations

from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary, shard_of, step_in
from smart_monitor.checkpoints.content import content_missing

SUFFIX = ".safetensors"


class SafetensorsFiles:
    """`adapter_model.safetensors`, `lora-000010.safetensors`."""

    name = "safetensors_files"
    recognises = (
        "safetensors",
        "`*.safetensors` that are no shards",
        "the header agrees with the length",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.files:
            stem = name.removesuffix(SUFFIX)
            if stem != name and not shard_of(stem) and not is_temporary(name):
                yield folder.candidate(name, step_in(stem), single=True)

    def missing(self, candidate: Candidate) -> list[str]:
        return content_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "its length is what its header promises"


LAYOUT = SafetensorsFiles()
