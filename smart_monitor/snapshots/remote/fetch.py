"""Bringing a snapshot back from the remote: every file compared with its digest, the directory whole or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.names import SNAPSHOT, is_inside, shown
from smart_monitor.snapshots.remote.place import Remote


class NotFetched(Exception):
    """The text says why, in one sentence."""


def standing(remote: Remote, folder: str) -> list[str]:
    """The names of the snapshots that stand whole in a folder of the remote."""
    names = [n for n in remote.names(folder) if SNAPSHOT.fullmatch(n)]
    return [n for n in names if remote.find(f"{folder}/{n}/{sums.NAME}") is not None]


def fetch(remote: Remote, folder: str, name: str, target: Path, reached: Callable[[int, int], None]) -> int:
    """Write the snapshot `folder`/`name` to the new directory `target`; its bytes. `reached` hears of bytes done and in all.

    Raises NotFetched if something is wrong with it or in the way, OSError if it can't be written, or what the
    remote raises; then `target` is not there.
    """
    if os.path.lexists(target):
        raise NotFetched(f"{target} is there already")
    try:
        content = b"".join(remote.read(f"{folder}/{name}/{sums.NAME}"))
        digests = sums.parse(content)
    except FileNotFoundError:
        raise NotFetched(f"{remote.at(f'{folder}/{name}')} is not there, or not whole") from None
    except ValueError as error:
        raise NotFetched(f"its {sums.NAME} can't be used: {error}") from error
    if not all(map(is_inside, digests)):
        raise NotFetched(f"its {sums.NAME} names a file outside the snapshot")
    sizes = {path: _size(remote, f"{folder}/{name}", path) for path in digests}
    done, total = 0, sum(sizes.values())

    def passed(count: int) -> None:
        nonlocal done
        done += count
        reached(done, total)

    growing = target.with_name(f".{target.name}.fetching-{os.getpid()}")
    make_private(str(growing.absolute()))
    try:
        for path in sorted(digests):
            _bring(remote, f"{folder}/{name}", path, digests[path], growing, passed)
        (growing / sums.NAME).write_bytes(content)
        (growing / sums.NAME).chmod(0o600)
        growing.rename(target)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
    return total


def _size(remote: Remote, at: str, path: str) -> int:
    found = remote.find(f"{at}/{path}")
    if found is None:
        raise NotFetched(f"{shown(path)} is missing there")
    return found.bytes


def _bring(remote: Remote, at: str, path: str, digest: str, growing: Path, passed: Callable[[int], None]) -> None:
    sha = hashlib.sha256()
    make_private(str((growing / path).parent.absolute()))
    fd = os.open(growing / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        for piece in remote.read(f"{at}/{path}"):
            sha.update(piece)
            file.write(piece)
            passed(len(piece))
        file.flush()
        os.fsync(fd)
    if sha.hexdigest() != digest:
        raise NotFetched(f"{shown(path)} is damaged there: it is not what {sums.NAME} says")
