"""What differs between two snapshots: words, files, and tensors by their headers, or by their bytes where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from smart_monitor.snapshots.headers import Tensor, read_header
from smart_monitor.snapshots.listing import is_inside, read_metadata

CHUNK = 4 * 2**20
_FIELDS = (
    "run", "attempt", "reason", "step", "onset_step", "loss", "accuracy", "learning_rate", "best_loss", "best_loss_step", "note",
)  # fmt: skip
_KEPT = ("name", "step", "layout")
What = Literal["added", "removed", "changed"]


class Field(NamedTuple):
    """A word of the metadata that is not the same."""

    name: str
    before: Any
    after: Any


@dataclass(slots=True)
class File:
    """A file that is not the same. The checkpoint's own name is left out of its path, so that steps can be compared."""

    path: str
    what: What
    before: int | None
    """Bytes; None if it is not there."""
    after: int | None
    tensors: list[tuple[str, What | Literal["values"], str, str]] = field(default_factory=list)
    """(name, what, before, after) of each tensor known to differ; `values`: its bytes do, its type and shape don't."""
    same: int = 0
    """Tensors that agree as far as was looked: in type and shape, or also in their bytes."""
    why: str = ""
    """Why its tensors could not be compared."""


@dataclass(slots=True)
class Difference:
    """All that differs; equal files are only counted."""

    fields: list[Field] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    same: int = 0

    def __bool__(self) -> bool:
        return bool(self.fields or self.files)


def diff(a: Path, b: Path, *, values: bool = False, passed: Callable[[int], None] = lambda _: None) -> Difference:
    """What differs from the snapshot at `a` to the one at `b`; `values` also reads the bytes of tensors, in pieces.

    Files of equal published digest are equal. Raises OSError, or ValueError if metadata can't be used.
    """
    before, after = read_metadata(a), read_metadata(b)
    found = Difference(_fields(before, after))
    left, right = _files(before), _files(after)
    for path in sorted(left | right):
        one, other = left.get(path), right.get(path)
        if one and other and (one["bytes"], one["sha256"]) == (other["bytes"], other["sha256"]):
            found.same += 1
            continue
        what: What = "changed" if one and other else "added" if other else "removed"
        file = File(path, what, one["bytes"] if one else None, other["bytes"] if other else None)
        if one and other and path.endswith(".safetensors"):
            _compare(file, a / one["path"], b / other["path"], values, passed)
        found.files.append(file)
    return found


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Field]:
    left, right = _flat(before), _flat(after)
    return [Field(name, left.get(name), right.get(name)) for name in left | right if left.get(name) != right.get(name)]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: document.get(name) for name in _FIELDS}
    for role in ("checkpoint", "last_good"):
        kept = document.get(role)
        found |= {f"{role}.{name}": kept.get(name) if isinstance(kept, dict) else None for name in _KEPT}
    monitor = document.get("monitor")
    config = monitor.get("config") if isinstance(monitor, dict) else None
    return found | ({f"setting {key}": value for key, value in config.items()} if isinstance(config, dict) else {})


def _files(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    names = {top: (document.get(role) or {}).get("name") for top, role in (("model", "checkpoint"), ("last_good", "last_good"))}
    found = {}
    try:
        for file in document["files"]:
            path = file["path"]
            if not is_inside(path) or not isinstance(file["bytes"], int):
                raise ValueError(f"metadata.json names a file outside: {path}")
            top, _, rest = path.partition("/")
            name = names.get(top)
            if name and (rest == name or rest.startswith(f"{name}/")):
                path = f"{top}/<checkpoint>{rest[len(name) :]}" + (Path(name).suffix if rest == name else "")
            found[path] = file
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"metadata.json can't be used ({error})") from error
    return found


def _compare(file: File, a: Path, b: Path, values: bool, passed: Callable[[int], None]) -> None:
    try:
        left, right = read_header(a), read_header(b)
        for name in sorted(left | right):
            one, other = left.get(name), right.get(name)
            if one is None or other is None:
                file.tensors.append((name, "added" if other else "removed", str(one or ""), str(other or "")))
            elif (one.dtype, one.shape) != (other.dtype, other.shape):
                file.tensors.append((name, "changed", str(one), str(other)))
            elif values and not _same_bytes(a, one, b, other, passed):
                file.tensors.append((name, "values", str(one), str(other)))
            else:
                file.same += 1
    except (OSError, ValueError) as error:
        file.why = getattr(error, "strerror", None) or str(error)


def _same_bytes(a: Path, one: Tensor, b: Path, other: Tensor, passed: Callable[[int], None]) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fds = os.open(a, flags), os.open(b, flags)
    try:
        for at in range(0, one.end - one.begin, CHUNK):
            count = min(CHUNK, one.end - one.begin - at)
            pieces = os.pread(fds[0], count, one.begin + at), os.pread(fds[1], count, other.begin + at)
            passed(2 * count)
            if pieces[0] != pieces[1]:
                return False
        return one.end - one.begin == other.end - other.begin
    finally:
        for fd in fds:
            os.close(fd)
