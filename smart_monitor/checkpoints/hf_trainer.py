"""Hugging Face Trainer (Transformers, PEFT, TRL, Unsloth): `checkpoint-N/`.

Written in place, file by file; `trainer_state.json` is the last file of rank 0 and is itself written
without a temporary name, so it must parse. Random states of other ranks may land after it, which is why
stillness is asked for as well. What FSDP and DeepSpeed put into it (`pytorch_model_fsdp_0/`, `optimizer_0/`,
`global_stepN/`) is held to the rules of those writers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints.candidate import Candidate, Folder, shown
from smart_monitor.checkpoints.content import content_missing, marker_missing, weights_missing

CONFIG = "adapter_config.json"
MARKER = "trainer_state.json"
_NAME = re.compile(r"^checkpoint-([0-9]{1,18})$")
_INSIDE = re.compile(r"^(?:pytorch_model_fsdp_[0-9]+|optimizer_[0-9]+|global_step[0-9]+)/|^(?:latest|zero_to_fp32\.py)$")
_BESIDE = re.compile(
    r"^(?:training_args\.bin|(?:optimizer|scheduler|scaler)\.(?:pt|bin)|rng_state.*\.pth|latest|added_tokens.*|vocab.*|merges.*"
    r"|.*\.tfevents\..*)$"
)
"""What is not weights; nor is optimizer_0/ of FSDP."""
_USUAL = ("config.json|adapter_config.json", "training_args.bin")
_ADAPTER = re.compile(r"(?:^|/)adapter_model\.(?:safetensors|bin)$")
_HINTS = frozenset({"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", MARKER})


def says_trainer(names: Iterable[str]) -> bool:
    """Do these file names come from the Hugging Face Trainer?"""
    return any(n in _HINTS or (n.startswith("rng_state") and n.endswith(".pth")) for n in names)


def is_trainers(candidate: Candidate) -> bool:
    """Does the candidate, or anything beside it, show that the Hugging Face Trainer writes here?"""
    names = candidate.tree.names()
    if says_trainer(names) or any(_INSIDE.match(n) for n in names):
        return True
    if candidate.step is None:
        return False  # checkpoint-best and the like are saved by callbacks, which write no marker
    return any(says_trainer([n.rpartition("/")[2]]) for n in candidate.neighbours if n.startswith("checkpoint-") or "/" not in n)


class HuggingFaceTrainer:
    """`checkpoint-N/` (and the `tmp-checkpoint-N/` of releases 4.36 to 4.38, complete once renamed)."""

    name = "hf_trainer"
    marker = MARKER
    recognises = (
        "Hugging Face Trainer, PEFT, TRL, Unsloth",
        "`checkpoint-N/`",
        "`trainer_state.json` parses; every file of the index is there and whole, also what FSDP or DeepSpeed put into it",
    )
    turn = 1

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if name.startswith(("checkpoint-", "tmp-checkpoint-")):
                match = _NAME.match(name)
                yield folder.candidate(name, int(match.group(1)) if match else None)

    def missing(self, candidate: Candidate) -> list[str]:
        if candidate.name.startswith("tmp-checkpoint-"):
            return ["its name says that it is still being written"]
        said = content_missing(candidate, _USUAL)
        if is_trainers(candidate):
            said += marker_missing(candidate, MARKER) or _adapter_missing(candidate) or _weights_missing(candidate)
        elif not said:
            said = weights_missing(candidate)
        return said

    def proof(self, candidate: Candidate) -> str:
        if MARKER in candidate.tree.names():
            return f"{MARKER} parses, every file it needs is there and whole"
        return "no marker is known for it; its files are whole"


def _adapter_missing(candidate: Candidate) -> list[str]:
    """PEFT writes an adapter's weights and then the configuration that no reader does without."""
    names = candidate.tree.names() | {name for name, _ in candidate.tree.external}
    folders = {name.rpartition("/")[0] for name in names if _ADAPTER.search(name)}
    wanted = sorted({f"{folder}/{CONFIG}" if folder else CONFIG for folder in folders} - names)
    return [f"{shown(name)}, which is written after its weights, is missing" for name in wanted[:3]]


def _weights_missing(candidate: Candidate) -> list[str]:
    return weights_missing(candidate, _BESIDE) if candidate.tree.removed else []


LAYOUT = HuggingFaceTrainer()
