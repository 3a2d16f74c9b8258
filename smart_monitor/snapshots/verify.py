"""Is a snapshot still what was published? Every byte is read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.copy import Copier
from smart_monitor.snapshots.listing import is_inside, read_metadata
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.publish import METADATA


class Problem(NamedTuple):
    """One thing wrong with a snapshot."""

    path: str
    """POSIX, relative to the snapshot; `.` is the snapshot itself."""
    what: str


def verify(path: Path, passed: Callable[[int], None] = lambda _: None) -> list[Problem]:
    """Everything wrong with the snapshot at `path`, an empty list if nothing is. Never raises OSError.

    `passed` is told how many bytes were read, every few MiB.
    """
    present, problems = _present(path)
    if present is None:
        return problems
    digests = _digests(path, problems)
    lengths = _lengths(path, problems)
    with Copier(Pace(0, passed)) as copier:
        for name in sorted(set(digests) | set(lengths)):
            if name not in present:
                problems.append(Problem(name, "it is missing"))
            elif what := _check(path / name, digests.get(name, ""), lengths.get(name), copier):
                problems.append(Problem(name, what))
    for name in sorted(present - set(digests) - set(lengths) - {sums.NAME, METADATA}):
        problems.append(Problem(name, "it does not belong to the snapshot"))
    return sorted(set(problems))


def _present(path: Path) -> tuple[set[str] | None, list[Problem]]:
    """Relative names of the regular files, and problems with everything else."""
    if not os.path.isdir(path) or os.path.islink(path):
        return None, [Problem(".", "there is no such snapshot")]
    files: set[str] = set()
    problems: list[Problem] = []

    def unreadable(error: OSError) -> None:
        problems.append(Problem(os.path.relpath(error.filename, path), f"it can't be read ({error.strerror})"))

    for folder, folders, names in os.walk(path, onerror=unreadable):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))]:
            relative = os.path.relpath(os.path.join(folder, name), path)
            try:
                regular = stat.S_ISREG(os.lstat(path / relative).st_mode)
            except OSError:
                continue
            if regular:
                files.add(relative)
            else:
                problems.append(Problem(relative, "it is not a regular file"))
    return files, problems


def _digests(path: Path, problems: list[Problem]) -> dict[str, str]:
    try:
        digests = sums.parse((path / sums.NAME).read_bytes())
    except FileNotFoundError:
        problems.append(Problem(sums.NAME, "it is missing"))
    except (OSError, ValueError) as error:
        problems.append(Problem(sums.NAME, f"it can't be used: {getattr(error, 'strerror', None) or error}"))
    else:
        if METADATA not in digests:
            problems.append(Problem(sums.NAME, f"it does not cover {METADATA}"))
        return {n: d for n, d in digests.items() if _inside(n, sums.NAME, problems)}
    return {}


def _lengths(path: Path, problems: list[Problem]) -> dict[str, tuple[int, str]]:
    """Path -> (bytes, sha256) as the metadata tells."""
    try:
        files: list[dict[str, Any]] = read_metadata(path)["files"]
        found = {str(f["path"]): (int(f["bytes"]), str(f["sha256"])) for f in files}
    except FileNotFoundError:
        problems.append(Problem(METADATA, "it is missing"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problems.append(Problem(METADATA, f"it can't be used: {getattr(error, 'strerror', None) or error}"))
    else:
        return {n: v for n, v in found.items() if _inside(n, METADATA, problems)}
    return {}


def _inside(name: str, where: str, problems: list[Problem]) -> bool:
    if not is_inside(name):
        problems.append(Problem(where, f"it names a file outside the snapshot: {name}"))
    return is_inside(name)


def _check(path: Path, digest: str, told: tuple[int, str] | None, copier: Copier) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            found = copier.digest(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return f"it can't be read ({error.strerror})"
    shared = f"; {info.st_nlink - 1} more name{'s' * (info.st_nlink > 2)} share its storage" if info.st_nlink > 1 else ""
    if told and info.st_size != told[0]:
        return f"it is {info.st_size} bytes long instead of {told[0]}{shared}"
    if digest and found != digest:
        return f"its content changed: the sha256 is not the one in SHA256SUMS{shared}"
    if told and found != told[1]:
        return f"its content changed: the sha256 is not the one in metadata.json{shared}"
    return ""
