"""litgpt: `step-*/lit_model.pth` and `final/`, written in place; pretraining writes `model_config.yaml` last.

Finetuning writes no `model_config.yaml` with its steps, so it is asked for only where one lies in a directory beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, step_in
from smart_monitor.checkpoints.content import beside, content_missing

MARKER = "model_config.yaml"
_WEIGHTS = ("lit_model.pth", "lit_model.pth.lora", "lit_model.pth.adapter", "lit_model.pth.adapter_v2")
_NAME = re.compile(r"^(?:step-([0-9]{1,18})|final)$")


class LitGpt:
    """`step-00001000/`, `final/` with a `lit_model.pth` in it."""

    name = "litgpt"
    recognises = (
        "litgpt",
        "`step-N/lit_model.pth`, `final/`",
        "zip directories are whole, `model_config.yaml` is there if another one has it",
    )
    turn = 2

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if _NAME.match(name) and folder.has(name, *_WEIGHTS):
                yield folder.candidate(name, step_in(name))

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        if MARKER not in candidate.tree.names() and MARKER in beside(candidate, _NAME):
            said.append(f"{MARKER}, which is written last, is missing")
        return said

    def proof(self, candidate: Candidate) -> str:
        if MARKER in candidate.tree.names():
            return f"{MARKER} is there, and its files are whole"
        return "no marker is known for it; its files are whole"


LAYOUT = LitGpt()
