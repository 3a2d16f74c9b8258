"""Plain `*.safetensors` files beside one another: each is a checkpoint, shards of one model are not.

Up to release 0.7 the writer fills the final name in place, from 0.8 on a `.tmpXXXXXX` that it renames;
the length that the header promises tells a whole file in both cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, is_temporary, names_in, shard_of, step_in
from smart_monitor.checkpoints.checks import content_missing

SUFFIX = ".safetensors"


class SafetensorsFiles:
    """`adapter_model.safetensors`, `lora-000010.safetensors`."""

    name = "safetensors_files"

    def find(self, root: Path) -> Iterable[Candidate]:
        for name in names_in(root):
            if (
                name.endswith(SUFFIX)
                and not shard_of(name.removesuffix(SUFFIX))
                and not is_temporary(name)
                and os.path.isfile(root / name)
            ):
                yield Candidate(root / name, name, step_in(name.removesuffix(SUFFIX)), single=True)

    def missing(self, candidate: Candidate) -> list[str]:
        return content_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "its length is what its header promises"


LAYOUT = SafetensorsFiles()
