"""Restoring: from a snapshot back to a directory that a trainer can resume from.

Copied into a temporary sibling, every file compared with its digest, on the disk, and then one rename: under
the final name there is the whole checkpoint or nothing. What stands there already is never replaced, and
nothing is ever written below snapshots/.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.copy import Changed, Copier, Source
from smart_monitor.snapshots.listing import is_inside, read_metadata
from smart_monitor.snapshots.names import host, process_start, safe_reason, shown, stamp
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.partials import remove_tree
from smart_monitor.snapshots.publish import METADATA
from smart_monitor.snapshots.trash import reading

_PREFIX = re.compile(r"\.restoring-(?P<host>[A-Za-z0-9._-]+)-(?P<pid>[0-9]+)-(?P<start>[0-9]+)-.+\.tmp")
_AT_FDCWD = -100
_NOREPLACE = 1
"""renameat2 flag: fail if the new name is taken."""


class Refused(Exception):
    """It can't be restored, or not there; the text is one sentence. Nothing stands under the final name."""


class Taken(Refused):
    """The place asked for is taken, or none to write to."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What now stands where."""

    path: Path
    files: tuple[str, ...]
    bytes: int
    bad: tuple[str, ...]
    """Files whose digest is not the published one; only with `unverified`."""
    aside: Path | None
    """Where what stood there before is now."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a snapshot that a trainer resumes from."""

    name: str
    below: str
    """POSIX, within the snapshot; the part's files have paths below it, or it is the one file itself."""
    files: tuple[dict[str, Any], ...]
    described: dict[str, Any]
    """As the metadata tells it: name, source, step, layout."""

    @property
    def bytes(self) -> int:
        return sum(f["bytes"] for f in self.files)

    def relative(self, path: str) -> str:
        """Where a file of the snapshot goes in the directory that is restored."""
        return path.rpartition("/")[2] if path == self.below else path[len(self.below) + 1 :]


def part_of(document: dict[str, Any], *, last_good: bool) -> Part:
    """The checkpoint of a snapshot, else its model files; or the last good one. Raises Refused."""
    role, top = ("last_good", "last_good") if last_good else ("checkpoint", "model")
    described = document.get(role)
    try:
        files = [f for f in document["files"] if str(f["path"]).startswith(f"{top}/")]
        name = described.get("name") if isinstance(described, dict) else None
        below = f"{top}/{name}" if isinstance(name, str) and name else top
        inside = [f for f in files if f["path"] == below or f["path"].startswith(f"{below}/")]
        if not inside:
            below, inside = top, files
        if not all(is_inside(f["path"]) and isinstance(f["bytes"], int) for f in inside):
            raise Refused("its metadata names files outside of it")
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"its metadata can't be used ({error})") from error
    if not inside:
        raise Refused("it holds no last good checkpoint" if last_good else "it holds no checkpoint, only the words about it")
    found = described if isinstance(described, dict) else {}
    return Part(str(name or top), below, tuple(inside), found)


def restore(
    snapshot: Path,
    target: Path,
    *,
    last_good: bool = False,
    unverified: bool = False,
    replace: bool = False,
    passed: Callable[[int], None] = lambda _: None,
) -> Restored:
    """Write the checkpoint in `snapshot` to the new directory `target`.

    `unverified`: also with files that are not what was published, naming them. `replace`: what stands at
    `target` is put aside first (renamed, not deleted). Raises Refused, or OSError (a full disk); in
    either case nothing stands under the final name that did not before.
    """
    try:
        with reading(snapshot):
            return _restore(snapshot, target, last_good, unverified, replace, passed)
    except Changed as error:
        raise Refused(f"it changed while it was read: {error}") from error


def _restore(
    snapshot: Path, target: Path, last_good: bool, unverified: bool, replace: bool, passed: Callable[[int], None]
) -> Restored:
    digests = _trusted(snapshot, unverified)
    try:
        part = part_of(read_metadata(snapshot), last_good=last_good)
    except ValueError as error:
        raise Refused(f"its metadata can't be used ({error})") from error
    target = target.absolute()
    _require_elsewhere(target, snapshot.parent)
    if os.path.lexists(target) and not replace:
        raise Taken(f"{shown(str(target))} is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    owner = f"{host()}-{os.getpid()}-{process_start(os.getpid())}"
    # The ending tells trainers and monitors that it is no checkpoint yet.
    temporary = target.parent / f".restoring-{owner}-{safe_reason(target.name)[:80]}.tmp"
    try:
        os.mkdir(temporary)
        bad = _copy(snapshot, temporary, part, digests, unverified, passed)
        aside = _take_place(temporary, target, replace)
        _sync(target.parent)
    except BaseException:
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(temporary.name, parent)
        finally:
            os.close(parent)
        raise
    names = tuple(part.relative(f["path"]) for f in part.files)
    return Restored(target, names, part.bytes, tuple(bad), aside)


def _trusted(snapshot: Path, unverified: bool) -> dict[str, str]:
    """The digests of SHA256SUMS, of which metadata.json itself must be worthy."""
    try:
        digests = sums.parse((snapshot / sums.NAME).read_bytes())
        found = hashlib.sha256((snapshot / METADATA).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        if unverified:
            return {}
        raise Refused(f"its checksums can't be used ({getattr(error, 'strerror', None) or error})") from error
    if digests.get(METADATA) != found and not unverified:
        raise Refused(f"{METADATA} is not what was published")
    return digests


def _copy(
    snapshot: Path, temporary: Path, part: Part, digests: dict[str, str], unverified: bool, passed: Callable[[int], None]
) -> list[str]:
    bad: list[str] = []
    folders = {temporary}
    with Copier(Pace(0, passed)) as copier:
        for file in part.files:
            goal = temporary / part.relative(file["path"])
            goal.parent.mkdir(parents=True, exist_ok=True)
            folders |= {goal.parent, *(p for p in goal.parents if p.is_relative_to(temporary))}
            found = _copy_one(snapshot / file["path"], goal, file["path"], copier)
            if {found} != {file["sha256"], digests.get(file["path"], file["sha256"])}:
                bad.append(file["path"])
                if not unverified:
                    raise Refused(f"{shown(file['path'])} is not what was published: its digest differs")
    for folder in sorted(folders, key=lambda f: len(f.parts), reverse=True):
        _sync(folder)
    return bad


def _copy_one(path: Path, goal: Path, name: str, copier: Copier) -> str:
    """The digest of what was copied. The new file is readable as the umask says, whatever the snapshot's modes."""
    try:
        src = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{shown(name)} can't be read ({error.strerror})") from error
    try:
        info = os.fstat(src)
        dst = os.open(goal, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            return copier.copy(src, dst, Source(name, name, info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns))[0]
        finally:
            os.close(dst)
    finally:
        os.close(src)


def _require_elsewhere(target: Path, snapshots: Path) -> None:
    """Raises Refused if the target lies in what is ours, or holds it."""
    real = Path(os.path.realpath(target))
    for ours in (snapshots, snapshots.parent / ".smart_monitor"):
        folder = Path(os.path.realpath(ours))
        if real.is_relative_to(folder) or folder.is_relative_to(real):
            raise Taken(f"{shown(str(target))} is no place to restore to: {folder.name}/ is ours")


def _take_place(temporary: Path, target: Path, replace: bool) -> Path | None:
    """Give the whole copy its name; where what had that name is now."""
    if not (replace and os.path.lexists(target)):
        _rename_new(temporary, target)
        return None
    # Put aside and not deleted: the one that wanted it replaced may still have been wrong about it.
    plain = aside = target.with_name(f"{target.name}.before-{stamp(time.time())}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = plain.with_name(f"{plain.name}_{number}")
    _rename_new(target, aside)
    try:
        _rename_new(temporary, target)
    except BaseException:
        _rename_new(aside, target)
        raise
    return aside


def _rename_new(old: Path, new: Path) -> None:
    """Rename to a name that must be free. Raises Refused if it is not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):  # a file system that can't promise it
        if not os.path.lexists(new):
            os.rename(old, new)
            return
        code = errno.EEXIST
    if code in (errno.EEXIST, errno.ENOTEMPTY):
        raise Taken(f"{shown(str(new))} has appeared meanwhile")
    raise OSError(code, os.strerror(code), str(new))


def sweep(folder: Path) -> None:
    """Remove what restores of this machine that were killed have left in `folder`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            match = _PREFIX.fullmatch(name)
            if match and match["host"] == host() and process_start(int(match["pid"])) != match["start"]:
                remove_tree(name, fd)
    finally:
        os.close(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
