"""Keras: `*.keras` (a zip archive) and `*.h5`, `*.weights.h5`, `*.hdf5`, both written in place over the same name.

The zip directory is the last to be written; an HDF5 file says in its first bytes where it ends, and its
writer says there as well that it has it open. h5py is not needed for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, is_temporary, step_in
from smart_monitor.checkpoints.content import content_missing

_SUFFIX = re.compile(r"(?:\.weights)?\.(?:h5|hdf5)$|\.keras$")
_MODEL = re.compile(r"model|ckpt|checkpoint|weights|best|last|final|latest|epoch|step", re.IGNORECASE)


class KerasFiles:
    """`model.keras`, `ckpt.weights.h5`, `epoch_03.keras`; an `.h5` of data (`train.h5`) is none."""

    name = "keras_files"
    recognises = (
        "Keras",
        "`*.keras`, `*.weights.h5`, `*.h5` with a model's name or a step",
        "the zip directory, or the HDF5 superblock, agrees with the length",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.files:
            if not (match := _SUFFIX.search(name)) or is_temporary(name):
                continue
            stem = name[: match.start()]
            if match.group() in (".keras", ".weights.h5") or _MODEL.search(stem) or step_in(stem) is not None:
                yield folder.candidate(name, step_in(stem), single=True)

    def missing(self, candidate: Candidate) -> list[str]:
        return content_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        if candidate.name.endswith(".keras"):
            return "its zip directory is whole"
        return "its length is what its HDF5 superblock promises"


LAYOUT = KerasFiles()
