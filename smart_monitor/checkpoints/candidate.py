"""What may be a checkpoint, and the bounded look at the files below it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path

from smart_monitor.model import FileStamp

MAX_ENTRIES = 20_000
"""Entries looked at in one directory of a checkpoint: thousands of ranks write a few files each into one."""
MAX_FILES = 20_000
"""Files looked at in one scan, over all candidates."""
MAX_NAMES = 20_000
"""Names read from a directory that may hold checkpoints: names are cheap and a run's directory may hold many logs."""
MAX_DEPTH = 12

OURS = frozenset({"snapshots", ".smart_monitor", "logs", "anomalies"})
STALE_TEMPORARY = 600.0
"""Seconds after which a temporary file is one that a killed writer left behind."""
AFTERWARDS = 2 * 10**9
"""Nanoseconds by which a directory changed after its files were written, where links have given these a later ctime."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A regular file as `lstat` (or, through a link that stays inside, `stat`) saw it."""

    stamp: FileStamp
    ctime_ns: int
    mode: int
    uid: int

    @property
    def changed(self) -> float:
        """Unix seconds of the last change, a restored time stamp (`cp -p`, `tar -x`) notwithstanding."""
        return max(self.stamp.mtime_ns, self.ctime_ns) / 1e9


@dataclass(slots=True)
class Tree:
    """The files below a candidate. `problems` are reasons why the look at it was not whole."""

    files: list[Seen] = field(default_factory=list)
    external: list[tuple[str, str]] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    changed: float = 0.0
    removed: set[str] = field(default_factory=set)
    """Folders within it (empty: its top) from which something was unlinked after all that stands there was put there."""

    def names(self) -> set[str]:
        return {f.stamp.path for f in self.files}


class Budget:
    """How many files a scan may still look at, and what the scan before knew of when their content changed."""

    def __init__(self, files: int = MAX_FILES, before: Budget | None = None) -> None:
        self.left = files
        self._before = before._seen if before else {}
        self._seen: dict[tuple[int, int], tuple[int, int, int, int, int]] = {}

    def ctime_ns(self, info: os.stat_result) -> int:
        """The ctime, but for what a link to the file or the removal of one did to it: that is no change of content."""
        now = (info.st_size, info.st_mtime_ns, info.st_nlink, info.st_ctime_ns)
        before, found = self._before.get((info.st_dev, info.st_ino)), info.st_ctime_ns
        if before is not None and before[:2] == now[:2] and (before[2] != now[2] or before[3] == now[3]):
            found = before[4]
        self._seen[(info.st_dev, info.st_ino)] = (*now, found)
        return found

    def close(self) -> None:
        """The scan is over: what the one before it knew is not asked for again."""
        self._before = {}


@dataclass(slots=True)
class Candidate:
    """A directory or single file that a layout takes for a checkpoint, complete or not.

    A layout's `find` gives path, name and step; the shelf fills in `tree`, `now`, `neighbours`, `kin` and `gone` before it
    asks what is missing.
    """

    path: Path
    name: str
    step: int | None
    single: bool = False
    folder: Path = Path()
    """Where it was found: markers of the writer lie there, also when `path` is what a link led to."""
    tree: Tree = field(default_factory=Tree)
    now: float = 0.0
    neighbours: frozenset[str] = frozenset()
    """Names beside the candidate that may say something about it, and `sibling/name` one level into sibling directories."""
    kin: tuple[Candidate, ...] = ()
    """Where something was unlinked from it: candidates beside it that show what one of its family consists of."""
    gone: tuple[str, ...] = ()
    """Files that it had when it was complete, if all that stands is as it was then."""
    content: tuple[str, ...] | None = None
    """What `content_missing` found in the files, once it has looked; given where they are known not to have changed since."""

    def file(self, seen: Seen) -> Path:
        return self.path if seen.stamp.path == "." else self.path / seen.stamp.path

    def forget(self) -> None:
        """Let go of what only the scan needs, all but when it changed: of thousands of files that is megabytes."""
        self.tree, self.neighbours, self.kin = Tree(changed=self.tree.changed), frozenset(), ()


@dataclass(frozen=True, slots=True)
class Folder:
    """One listing of a directory that may hold checkpoints: read once a scan, asked by every layout. Never one of ours."""

    path: Path
    folders: tuple[str, ...]
    """Names of directories, links to directories among them."""
    files: tuple[str, ...]
    """Names of regular files, links to files among them."""
    others: tuple[str, ...]
    """Names of what is neither: links that lead nowhere, sockets, fifos."""

    @classmethod
    def read(cls, path: Path, most: int = MAX_NAMES) -> Folder:
        """At most `most` names. Raises OSError if `path` can't be listed."""
        kinds: tuple[list[str], list[str], list[str]] = [], [], []
        with os.scandir(path) as entries:
            for entry, _ in zip(entries, range(most), strict=False):
                if not is_ours(entry.name):
                    kinds[0 if _holds(entry.is_dir) else 1 if _holds(entry.is_file) else 2].append(entry.name)
        return cls(path, *(tuple(sorted(names)) for names in kinds))

    @property
    def names(self) -> list[str]:
        return sorted((*self.folders, *self.files, *self.others))

    def candidate(self, name: str, step: int | None, *, single: bool = False) -> Candidate:
        return Candidate(self.path / name, name, step, single, self.path)

    def without(self, names: Container[str]) -> Folder:
        folders, files = (tuple(n for n in those if n not in names) for those in (self.folders, self.files))
        return Folder(self.path, folders, files, self.others)

    def has(self, name: str, *inner: str) -> bool:
        """Does the directory `name` hold anything of these names? One look each, nothing is opened."""
        return any(os.path.lexists(f"{self.path}/{name}/{i}") for i in inner)


def is_ours(name: str) -> bool:
    """A name under which we keep things ourselves: never a checkpoint of the trainer."""
    return name in OURS or name.startswith((".partial-", ".trash-", "anomaly_"))


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself
        return False


_STEP = re.compile(r"(?:^|[-_.=@ ])(?:global_?step|step|iteration|iter)[-_=]?([0-9]+)", re.IGNORECASE)
_EPOCH = re.compile(r"(?:^|[-_.=@ ])epoch[-_=]?([0-9]+)", re.IGNORECASE)
_TAIL = re.compile(r"(?:^|[-_])(?:v[0-9]+[-_])?([0-9]+)$")
_SHARD = re.compile(r"^(.*?)[-_]([0-9]{4,6})-of-([0-9]{4,6})(.*)$")


def step_in(stem: str) -> int | None:
    """The step a name tells (`step_100`, `epoch=3-step=400`, `lora-000010`), or None."""
    if _SHARD.match(stem):
        return None
    for pattern in (_STEP, _EPOCH, _TAIL):
        if match := pattern.search(stem):
            digits = match.group(1)
            return int(digits) if len(digits) <= 18 else None
    return None


def shard_of(name: str) -> tuple[str, int, int] | None:
    """(group, number, count) of `model-00002-of-00005.safetensors`, else None."""
    match = _SHARD.match(name)
    return (f"{match.group(1)}*{match.group(4)}", int(match.group(2)), int(match.group(3))) if match else None


def is_temporary(name: str) -> bool:
    """A name that writers give to files they have not finished."""
    return (
        name.startswith((".tmp", "tmp-checkpoint-"))
        or name.endswith((".tmp", ".partial", ".part", "-unfinished"))
        or ".orbax-checkpoint-tmp" in name
    )


def shown(name: str) -> str:
    """A name fit for a sentence on one line: what can't be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)


def look(path: Path, single: bool, budget: Budget, now: float) -> Tree:
    """The files at `path`. Never raises OSError: what can't be looked at is a problem in words."""
    tree = Tree()
    try:
        if single:
            tree.changed = _add(tree, ".", os.stat(path), budget)
        else:
            top = os.path.realpath(path)
            _walk(tree, top, "", budget, now, 0)
    except OSError as error:
        tree.problems.append(f"it can't be looked at ({error.strerror})")
    return tree


def _add(tree: Tree, relative: str, info: os.stat_result, budget: Budget) -> float:
    budget.left -= 1
    if budget.left < 0:
        if not tree.problems:
            tree.problems.append(f"more than {MAX_FILES} files to look at in one scan")
        return 0.0
    stamp = FileStamp(relative, info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns)
    seen = Seen(stamp, budget.ctime_ns(info), info.st_mode, info.st_uid)
    tree.files.append(seen)
    tree.changed = max(tree.changed, seen.changed)
    return tree.changed


def _walk(tree: Tree, top: str, relative: str, budget: Budget, now: float, depth: int) -> None:
    """Fill `tree` from `top`/`relative` and below."""
    here = os.path.join(top, relative) if relative else top
    own = os.stat(here)
    tree.changed = max(tree.changed, own.st_mtime, own.st_ctime)
    written = put = 0
    with os.scandir(here) as entries:
        listed = sorted(e.name for e, _ in zip(entries, range(MAX_ENTRIES + 1), strict=False))
    if len(listed) > MAX_ENTRIES:
        tree.problems.append(f"more than {MAX_ENTRIES} entries in {shown(relative) or 'its directory'}")
        return
    for name in listed:
        inner = f"{relative}/{name}" if relative else name
        try:
            info = os.lstat(f"{here}/{name}")  # an entry of scandir would keep it until the last is looked at
            ctime = budget.ctime_ns(info) if stat.S_ISREG(info.st_mode) else info.st_ctime_ns
            written, put = max(written, info.st_mtime_ns), max(put, ctime, info.st_mtime_ns)
            if stat.S_ISDIR(info.st_mode):
                if is_temporary(name):
                    tree.temporary.append(inner)
                elif depth >= MAX_DEPTH:
                    tree.problems.append(f"{shown(inner)} lies deeper than {MAX_DEPTH} directories")
                elif budget.left >= 0:
                    _walk(tree, top, inner, budget, now, depth + 1)
            else:
                _leaf(tree, top, inner, info, budget, now)
        except FileNotFoundError:
            tree.problems.append(f"{shown(inner)} vanished while it was looked at")
        except OSError as error:
            tree.problems.append(f"{shown(inner)} can't be looked at ({error.strerror})")
    # Whatever is put into a directory, or renamed in it, has a ctime no earlier than the directory's change by that.
    # An empty one may have been emptied.
    if put < own.st_mtime_ns or written < own.st_mtime_ns - AFTERWARDS:
        tree.removed.add(relative)


def _leaf(tree: Tree, top: str, inner: str, info: os.stat_result, budget: Budget, now: float) -> None:
    name = inner.rpartition("/")[2]
    if stat.S_ISLNK(info.st_mode):
        _link(tree, top, inner, budget)
    elif not stat.S_ISREG(info.st_mode):
        tree.external.append((inner, f"a {_kind(info.st_mode)}, not a file"))
    elif is_temporary(name):
        if now - max(info.st_mtime, info.st_ctime) > STALE_TEMPORARY:
            tree.external.append((inner, "a temporary file that its writer left behind"))
        else:
            tree.temporary.append(inner)
            tree.changed = max(tree.changed, info.st_mtime, info.st_ctime)
    else:
        _add(tree, inner, info, budget)


def _link(tree: Tree, top: str, inner: str, budget: Budget) -> None:
    """A link that stays inside counts as its target's content; any other is recorded and never followed."""
    target = os.path.realpath(os.path.join(top, inner))
    if not target.startswith(top.rstrip("/") + "/"):
        tree.external.append((inner, f"a link out of the checkpoint, to {shown(target)}"))
        return
    try:
        info = os.stat(target)
    except OSError as error:
        tree.external.append((inner, f"a link that leads nowhere ({error.strerror})"))
        return
    if stat.S_ISREG(info.st_mode):
        _add(tree, inner, info, budget)
    else:
        tree.external.append((inner, f"a link to a {_kind(info.st_mode)} inside the checkpoint"))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFDIR: "directory",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
