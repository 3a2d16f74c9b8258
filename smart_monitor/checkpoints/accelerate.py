"""Accelerate's `save_state`: `checkpoint_i/`, by automatic naming in `checkpoints/`.

Written in place: weights, optimizer, scheduler, sampler, scaler, and last of each rank's files its
`random_states_R.pkl`. Objects registered by the user (`custom_checkpoint_i.pkl`) follow without a marker,
for which stillness stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder
from smart_monitor.checkpoints.content import beside, content_missing, weights_missing

MARKER = "random_states_0.pkl"
_NAME = re.compile(r"^checkpoint_([0-9]{1,18})$")
_STATE = re.compile(r"^(?:random_states_[0-9]+\.pkl|(?:optimizer|scheduler|sampler|dl_state_dict)(?:_[0-9]+)?\.bin|scaler\.pt)$")
_USUAL = ("optimizer.bin|optimizer_0|pytorch_model", MARKER)
_HINT = re.compile(r"^(?:random_states_[0-9]+\.pkl|(?:optimizer|scheduler|sampler)(?:_[0-9]+)?\.bin|scaler\.pt)$")


class Accelerate:
    """`checkpoint_0/`; one without any sign of Accelerate, in it or beside it, is complete by its files."""

    name = "accelerate"
    recognises = (
        "Accelerate `save_state`",
        "`checkpoint_i/`",
        "`random_states_0.pkl` is there, the other files are whole",
    )
    turn = 3

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if match := _NAME.match(name):
                yield folder.candidate(name, int(match.group(1)))

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate, _USUAL)
        names = candidate.tree.names()
        if MARKER not in names and any(_HINT.match(n) for n in (*names, *beside(candidate, _NAME))):
            said.append(f"{MARKER}, which is written last, is missing")
        return said or weights_missing(candidate, _STATE)

    def proof(self, candidate: Candidate) -> str:
        if MARKER in candidate.tree.names():
            return f"{MARKER} is there, and its files are whole"
        return "no marker is known for it; its files are whole"


LAYOUT = Accelerate()
