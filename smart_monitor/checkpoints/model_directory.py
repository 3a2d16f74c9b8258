"""Directories of model files under any writer's name: `step_1000/`, `epoch_3/`, `checkpoint_500/`, `final/`.

No writer of these leaves a marker that is known here, so what their files say about themselves and
stillness are the only proof.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from smart_monitor.checkpoints.candidate import Candidate, names_in, step_in
from smart_monitor.checkpoints.checks import content_missing, weights_missing

_STEPPED = re.compile(r"(?:^|[-_.=])(?:step|iter|iteration|epoch|checkpoint|ckpt)s?[-_=]?[0-9]{1,18}$", re.IGNORECASE)
_NAMED = re.compile(
    r"^(?:(?:final|best|last|latest)(?:[-_](?:model|checkpoint|adapter|ckpt))?|checkpoint[-_]?[a-z]*)$", re.IGNORECASE
)


class ModelDirectory:
    """A directory named for a step or an epoch, or final, best, last, latest."""

    name = "model_directory"

    def find(self, root: Path) -> Iterable[Candidate]:
        for name in names_in(root):
            if name.startswith("checkpoint-") or not (_STEPPED.search(name) or _NAMED.match(name)):
                continue
            if os.path.isdir(root / name):
                tail = re.search(r"([0-9]{1,18})$", name)
                yield Candidate(root / name, name, step_in(name) if step_in(name) is not None else int(tail[1]) if tail else None)

    def missing(self, candidate: Candidate) -> list[str]:
        said = content_missing(candidate)
        if f"{candidate.name}-unfinished" in candidate.neighbours:
            said.append(f"{candidate.name}-unfinished says that the writer has not finished")
        return said or weights_missing(candidate)

    def proof(self, candidate: Candidate) -> str:
        return "no marker is known for it; its files are whole"


LAYOUT = ModelDirectory()
