"""Directories of model files under any writer's name: `step_1000/`, `epoch_3/`, `checkpoint_500/`, `final/`.

It serves torchtune (`epoch_k/`), litgpt's finetuning and whoever calls `save_pretrained` himself. No writer
of these leaves a marker that is known here, so what their files say about themselves (headers, indexes,
shards promised by names) and stillness are the only proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smart_monitor.checkpoints import ANYONES
from smart_monitor.checkpoints.candidate import Candidate, Folder, step_in
from smart_monitor.checkpoints.content import content_missing, weights_missing

_STEPPED = re.compile(r"(?:^|[-_.=])(?:step|iter|iteration|epoch|checkpoint|ckpt)s?[-_=]?[0-9]{1,18}$", re.IGNORECASE)
_NAMED = re.compile(
    r"^(?:(?:final|best|last|latest)(?:[-_](?:model|checkpoint|adapter|ckpt))?|checkpoint(?!s$)[-_]?[a-z]*)$", re.IGNORECASE
)


def step_of_directory(name: str) -> int | None:
    """The step that the name of a directory tells; a bare number at its end is one."""
    step = step_in(name)
    tail = re.search(r"([0-9]{1,18})$", name)
    return step if step is not None else int(tail[1]) if tail else None


class ModelDirectory:
    """A directory named for a step or an epoch, or final, best, last, latest."""

    name = "model_directory"
    recognises = (
        "torchtune and others",
        "directories named for a step or an epoch, or final, best, last",
        "headers, indexes and zip directories agree with the files",
    )
    turn = ANYONES

    def find(self, folder: Folder) -> Iterable[Candidate]:
        for name in folder.folders:
            if not name.startswith("checkpoint-") and (_STEPPED.search(name) or _NAMED.match(name)):
                yield folder.candidate(name, step_of_directory(name))

    def missing(self, candidate: Candidate) -> list[str]:
        return content_missing(candidate) or weights_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "no marker is known for it; its files are whole"


LAYOUT = ModelDirectory()
