"""The model files that lie beside the checkpoints: the whitelist of what is kept of them. Never data."""

from __future__ import annotations

import os
import re
from pathlib import Path

from smart_monitor.checkpoints.candidate import Budget, Folder, Seen, Tree, is_temporary, look, shard_of, shown, step_in
from smart_monitor.checkpoints.checks import file_problem
from smart_monitor.checkpoints.content import absent_shards, indexed_files
from smart_monitor.model import Checkpoint, FileStamp

_KEPT = re.compile(
    r"^(?:.*\.safetensors(?:\.index\.json)?|adapter_config\.json|(?:generation_|preprocessor_|processor_)?config\.json"
    r"|tokenizer.*\.(?:json|model)|special_tokens_map\.json|added_tokens\.json|vocab\..*|merges\.txt|spiece\.model"
    r"|chat_template\..*|pytorch_model.*\.bin(?:\.index\.json)?|training_args\.bin|model\.pth?)$",
    re.DOTALL,
)
_WEIGHTS = re.compile(r"\.(?:safetensors|bin|pth?)$")


def is_model_file(name: str) -> bool:
    """Is a file of this name part of the model that lies beside the checkpoints? Files of one step are checkpoints."""
    if not _KEPT.match(name) or is_temporary(name):
        return False
    stem = re.sub(r"\.(?:safetensors|bin|pth?)$", "", name)
    return stem == name or bool(shard_of(stem)) or step_in(stem) is None


def model_files(root: Path, budget: Budget, now: float) -> Checkpoint | None:
    """The whitelisted files directly in `root` as they stand, the damaged named in `external`; None without any."""
    try:
        names = [n for n in Folder.read(root).names if is_model_file(n)]
    except OSError:
        return None
    kept: list[Seen] = []
    external: list[tuple[str, str]] = []
    for name in names:
        tree = _look(root, name, budget, now)
        external += [(name, problem) for problem in tree.problems]
        for seen in tree.files:
            if problem := file_problem(root / name):
                external.append((name, f"it {problem}"))
            else:
                kept.append(seen)
    if not kept:
        return None
    external += _absent(root, names)
    return Checkpoint(
        name=root.name,
        path=str(root),
        step=None,
        layout="model_files",
        complete_by="as they stood",
        completed=max(s.stamp.mtime_ns for s in kept) / 1e9,
        files=tuple(s.stamp for s in kept),
        external=tuple(external),
    )


def has_weights(found: Checkpoint) -> bool:
    """Are there weights among the model files, or only configuration?"""
    return any(_WEIGHTS.search(f.path) and f.path != "training_args.bin" for f in found.files)


def _look(root: Path, name: str, budget: Budget, now: float) -> Tree:
    path = root / name
    real = os.path.realpath(path)  # Path.resolve raises on a link to itself
    if os.path.islink(path) and os.path.dirname(real) != os.path.realpath(root):
        return Tree(problems=[f"it is a link to {shown(real)}, outside the model's directory"])
    if not os.path.isfile(path):
        return Tree(problems=["it is not a file"])
    tree = look(path, True, budget, now)
    for i, seen in enumerate(tree.files):
        s = seen.stamp
        tree.files[i] = Seen(FileStamp(name, s.bytes, s.dev, s.ino, s.mtime_ns), seen.ctime_ns, seen.mode, seen.uid)
    return tree


def _absent(root: Path, names: list[str]) -> list[tuple[str, str]]:
    absent = dict.fromkeys(absent_shards(set(names)), "its number is promised by the names of the others, but it is not there")
    for index in (n for n in names if n.endswith(".index.json")):
        for name in sorted((indexed_files(root / index) or set()) - set(names))[:20]:
            absent[name] = f"named in {shown(index)}, but it is not there"
    return sorted(absent.items())
