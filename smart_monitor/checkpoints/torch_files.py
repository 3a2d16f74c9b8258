"""`*.pt`, `*.pth`, `*.ckpt`, `*.bin` of torch.save, Lightning and nanoGPT: zip archives, read as such only.

torch.save truncates its destination first and writes in place; the zip directory comes last, so its
end tells a whole file. Files of the old, unzipped format have only stillness. Nothing is unpickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, is_temporary, names_in, shard_of, step_in
from smart_monitor.checkpoints.checks import ZIPPED, content_missing

_MODEL = re.compile(r"model|ckpt|checkpoint|adapter|lora|weights|best|last|final|latest|state", re.IGNORECASE)
_PART = re.compile(r"^(?:optimizer|scheduler|rng_state|random_states|training_args|scaler|sampler)", re.IGNORECASE)


class TorchFiles:
    """`ckpt.pt`, `model_1000.pth`, `epoch=3-step=400.ckpt`; a file of data (`train.pt`) is none."""

    name = "torch_files"

    def find(self, root: Path) -> Iterable[Candidate]:
        for name in names_in(root):
            stem, dot, suffix = name.rpartition(".")
            if f"{dot}{suffix}" not in ZIPPED or _PART.match(name) or shard_of(stem) or is_temporary(name):
                continue
            if (suffix == "ckpt" or _MODEL.search(stem) or step_in(stem) is not None) and os.path.isfile(root / name):
                yield Candidate(root / name, name, step_in(stem), single=True)

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        if f"{candidate.name}-unfinished" in candidate.neighbours:
            said.append(f"{candidate.name}-unfinished says that the writer has not finished")
        return said

    def proof(self, candidate: Candidate) -> str:
        return "its zip directory is whole, or it is of the old format that has none"


LAYOUT = TorchFiles()
