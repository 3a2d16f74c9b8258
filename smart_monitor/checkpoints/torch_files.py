"""`*.pt`, `*.pth`, `*.bin` of torch.save and nanoGPT (`out/ckpt.pt`): zip archives, read as such only.

torch.save truncates its destination first and writes in place; the zip directory comes last, so its
end tells a whole file. Files of the old, unzipped format have only stillness. Nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary, shard_of, step_in
from smart_monitor.checkpoints.content import content_missing

SUFFIXES = (".pt", ".pth", ".bin")
_MODEL = re.compile(r"model|ckpt|checkpoint|adapter|lora|weights|best|last|final|latest|state", re.IGNORECASE)
_PART = re.compile(r"^(?:optimizer|scheduler|rng_state|random_states|training_args|scaler|sampler)", re.IGNORECASE)


class TorchFiles:
    """`ckpt.pt`, `model_1000.pth`; a file of data (`train.pt`) is none."""

    name = "torch_files"
    recognises = (
        "torch.save, nanoGPT",
        "`*.pt`, `*.pth`, `*.bin` with a model's name or a step",
        "the zip directory is whole",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.files:
            stem, dot, suffix = name.rpartition(".")
            if f"{dot}{suffix}" not in SUFFIXES or _PART.match(name) or shard_of(stem) or is_temporary(name):
                continue
            if _MODEL.search(stem) or step_in(stem) is not None:
                yield folder.candidate(name, step_in(stem), single=True)

    def missing(self, candidate: Candidate) -> list[str]:
        return content_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "its zip directory is whole, or it is of the old format that has none"


LAYOUT = TorchFiles()
