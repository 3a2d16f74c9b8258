"""Sharing: what stands in a snapshot already is cloned or linked from there instead of being written once more.

Two rules that fire on one checkpoint are the usual case. A file is shared with another only after its
content is known to be the same: its source is, to the nanosecond of its ctime, the one that was copied
then, or it has been read and has the same digest. What was taken is read back like any copy.

A link is made only of a file whose every other name is known to be in a snapshot: an inode that may
have a name in a trainer's directory is neither linked nor made read-only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from smart_monitor.snapshots.copy import CLOCK_GRAIN, FICLONE, FULL, Copier, Source
from smart_monitor.snapshots.lock import Held, store_lock
from smart_monitor.snapshots.names import SNAPSHOT, shown
from smart_monitor.snapshots.publish import METADATA, Partial

NEWEST = 64
"""Snapshots that are looked through for equal files."""
MAX_METADATA = 64 * 2**20
MAX_KNOWN = 4096
"""Sources whose identity is remembered."""
SAMPLES, SAMPLE = 32, 4096
"""Pieces, and bytes of each, that must be equal before a file is read for its digest."""
FEW = 4
"""Samples of those by which files of one length are told apart: each file is read so once, however many there are."""
MOST_NAMES = 64
"""Names of one file beyond which an equal one is rather copied: all of them are looked at for each further one."""
MOST_TRIES = 8
"""Equal files that may turn out not to be shared before one is copied."""
PATIENCE = 5.0
"""Seconds to wait for the store lock before a file is rather copied."""
KNOWN = "sources.json"


class Twin(NamedTuple):
    """A file of ours that may be equal to one that is to be kept."""

    path: str
    """POSIX, below the directory in which it is looked for."""
    bytes: int
    sha256: str
    own: bool = False
    """It lies in the partial under way, and not in a snapshot."""


class Stock:
    """What can be shared: the files of the newest snapshots, and of the partial under way.

    `snapshots` is a descriptor of their directory, `folder` is where the store lock and our memory lie.
    `damaged` collects the files of snapshots that no longer hold what was published.
    """

    def __init__(self, snapshots: int, folder: str, partial: Partial) -> None:
        self._snapshots, self._folder, self._partial = snapshots, folder, partial
        self._twins = _published(snapshots)
        self._known = _remembered(os.path.join(folder, KNOWN))
        self._learned: dict[str, list[Any]] = {}
        self._marked: dict[tuple[int, bool], dict[bytes | None, list[Twin]]] = {}
        self._inodes: dict[Twin, int] = {}
        self._clones = self._links = True
        self.damaged: list[str] = []

    def share(self, src: int, source: Source, copier: Copier, *, own: bool = False) -> str | None:
        """Put `source`, open as `src`, into the partial without copying it; its sha256, None if nothing equal was found.

        Looks among snapshots, or, if `own`, in the partial itself. Raises Changed if the source does not
        stand still, and OSError if its bytes can't be read.
        """
        before = os.fstat(src)
        sha: str | None = None
        tries = 0
        if source.bytes == 0:
            return None
        for twin, proven in self._candidates(src, source, before, own):
            if proven:
                sha = twin.sha256
            elif not self._alike(src, twin):
                continue
            sha = sha or copier.examine(src, source)
            if sha == twin.sha256 and self._take(twin, source, copier):
                self.add(source.dest, twin.bytes, sha)
                self.learn(src, before, source.dest, twin.bytes, sha)
                return sha
            tries += sha == twin.sha256
            if tries == MOST_TRIES:
                break
        return None

    def add(self, path: str, size: int, sha256: str) -> None:
        """A file that is in the partial now: one that follows may be equal."""
        twin = Twin(path, size, sha256, own=True)
        self._twins.setdefault(size, []).insert(0, twin)
        if (known := self._marked.get((size, True))) is not None:
            known.setdefault(self._mark(twin), []).insert(0, twin)

    def learn(self, src: int, before: os.stat_result, path: str, size: int, sha256: str) -> None:
        """Remember that a source in the state `before` has this content, if it still is in that state."""
        key = identity(before)
        # Within a clock tick of its last change a file can change again under the same time.
        if time.time() - before.st_ctime >= CLOCK_GRAIN and identity(os.fstat(src)) == key:
            self._learned[key] = [path, size, sha256]

    def remember(self, name: str) -> None:
        """The partial has become the snapshot `name`. What can't be written is merely read again next time."""
        learned = {key: Twin(f"{name}/{path}", size, sha) for key, (path, size, sha) in self._learned.items()}
        kept = list(({**{k: v for k, v in self._known.items() if k not in learned}, **learned}).items())[-MAX_KNOWN:]
        document = {"schema": 1, "files": {key: [t.path, t.bytes, t.sha256] for key, t in kept}}
        path = os.path.join(self._folder, KNOWN)
        with suppress(OSError):
            fd = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="ascii") as file:
                json.dump(document, file)
            os.rename(f"{path}.tmp", path)

    def _candidates(self, src: int, source: Source, info: os.stat_result, own: bool) -> Iterator[tuple[Twin, bool]]:
        """Files that may be equal, and whether one is known to have been made of this very state of the source."""
        known = self._known.get(identity(info))
        if known is not None and known.own == own and known in self._twins.get(source.bytes, ()):
            yield known, True  # the metadata of its snapshot says the same
        if any(twin.own == own for twin in self._twins.get(source.bytes, ())):
            mark = _samples(src, source.bytes, FEW)
            yield from ((twin, False) for twin in tuple(self._by_mark(source.bytes, own).get(mark, ())) if twin != known)

    def _by_mark(self, size: int, own: bool) -> dict[bytes | None, list[Twin]]:
        """The files of one length by what a few samples of them are."""
        if (size, own) not in self._marked:
            found: dict[bytes | None, list[Twin]] = {}
            for twin in self._twins.get(size, ()):
                if twin.own == own:
                    found.setdefault(self._mark(twin), []).append(twin)
            self._marked[size, own] = found
        return self._marked[size, own]

    def _mark(self, twin: Twin) -> bytes | None:
        try:
            with self._opened(twin) as (_, fd):
                return _samples(fd, twin.bytes, FEW)
        except OSError:
            return None

    def _alike(self, src: int, twin: Twin) -> bool:
        """Are the samples of both the same? Reads little: of two checkpoints of a run nearly every file has the same length."""
        try:
            with self._opened(twin) as (_, fd):
                return all(os.pread(src, SAMPLE, at) == os.pread(fd, SAMPLE, at) for at in _offsets(twin.bytes, SAMPLES))
        except OSError:
            return False

    @contextmanager
    def _opened(self, twin: Twin) -> Iterator[tuple[int, int]]:
        """(directory, file) descriptors of a twin; no link is followed on the way. Raises OSError."""
        *folders, name = twin.path.split("/")
        folder = os.dup(self._partial.fd if twin.own else self._snapshots)
        try:
            for step in folders:
                inner = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                info = os.fstat(fd)
                if not stat.S_ISREG(info.st_mode) or info.st_size != twin.bytes:
                    raise OSError(errno.ESTALE, "it is not what was published")
                yield folder, fd
            finally:
                os.close(fd)
        finally:
            os.close(folder)

    def _take(self, twin: Twin, source: Source, copier: Copier) -> bool:
        """Clone or link a twin into the partial and read it back; False if that can't be done or it is damaged."""
        try:
            with self._opened(twin) as (folder, fd):
                dst = self._clone(fd, source.dest)
                if dst is None:
                    dst = self._link(folder, twin, fd, source.dest)
        except Held:
            self._links = False  # whoever holds it for so long is not waited for at every file
            return False
        except OSError as error:
            if error.errno in FULL:
                raise
            return False
        if dst is None:
            return False
        try:
            os.fsync(dst)
            if copier.digest(dst) == twin.sha256:
                return True
        finally:
            os.close(dst)
        self._partial.drop(source.dest)
        self.damaged.append(twin.path)
        return False

    def _clone(self, fd: int, dest: str) -> int | None:
        if not self._clones:
            return None
        dst = self._partial.create(dest)
        try:
            fcntl.ioctl(dst, FICLONE, fd)
        except OSError:
            self._clones = False
            os.close(dst)
            self._partial.drop(dest)
            return None
        return dst

    def _link(self, folder: int, twin: Twin, fd: int, dest: str) -> int | None:
        """A second name for a twin, read-only from now on: who edits one edits both."""
        if not self._links:
            return None
        with store_lock(self._folder, PATIENCE):
            info = os.fstat(fd)
            if not 0 < info.st_nlink <= MOST_NAMES or info.st_nlink > self._names_of(info, twin):
                return None
            os.fchmod(fd, 0o444)
            self._partial.link(folder, twin.path.rpartition("/")[2], dest)
        dst = os.open(dest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._partial.fd)
        if os.path.samestat(os.fstat(dst), info):
            return dst
        os.close(dst)
        self._partial.drop(dest)
        return None

    def _names_of(self, info: os.stat_result, twin: Twin) -> int:
        """How many names of an inode are known to be in snapshots, or in the partial."""
        if info.st_nlink == 1:
            return 1  # the one by which it was opened
        found = 0
        for other in self._twins.get(twin.bytes, ()):
            if other.sha256 == twin.sha256 and self._inodes.get(other, info.st_ino) == info.st_ino:
                with suppress(OSError), self._opened(other) as (_, fd):
                    seen = os.fstat(fd)
                    self._inodes[other] = seen.st_ino
                    found += os.path.samestat(seen, info)
            if found == info.st_nlink:
                break
        return found


def _offsets(size: int, count: int) -> range:
    """Where samples are taken; from the end on, for the beginning is a header, which tells checkpoints apart the least."""
    span = max(1, (size - SAMPLE) // count)
    return range(size - SAMPLE, -1, -span) if size > count * SAMPLE else range(0, size, SAMPLE)


def _samples(fd: int, size: int, count: int) -> bytes:
    """A digest of so many samples. Raises OSError."""
    digest = hashlib.sha256()
    for at in _offsets(size, count):
        digest.update(os.pread(fd, SAMPLE, at))
    return digest.digest()


def identity(info: os.stat_result) -> str:
    """A file and the state that it is in: whatever changes the content changes the ctime, which nobody can set."""
    return f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def _published(snapshots: int) -> dict[int, list[Twin]]:
    """Length -> files of that length in the newest snapshots, the newest first."""
    found: dict[int, list[Twin]] = {}
    matches = [m for m in map(SNAPSHOT.fullmatch, os.listdir(snapshots)) if m]
    room = MAX_METADATA
    for match in sorted(matches, key=lambda m: (m[1], m[2], m[0]), reverse=True)[:NEWEST]:
        name = match[0]
        try:
            fd = os.open(f"{name}/{METADATA}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=snapshots)
            with open(fd, "rb") as file:
                text = file.read(room + 1)
            room -= len(text)
            if room < 0:
                break
            for entry in json.loads(text)["files"]:
                twin = _twin(f"{name}/{entry['path']}", entry["bytes"], entry["sha256"])
                found.setdefault(twin.bytes, []).append(twin)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _remembered(path: str) -> dict[str, Twin]:
    """Identity of a source -> the file of a snapshot that was made of it; empty if that was never written."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(MAX_METADATA))
        if document["schema"] != 1:
            return {}
        return {str(key): _twin(*values) for key, values in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _twin(path: object, size: object, sha256: object) -> Twin:
    """Raises ValueError for what can't be a file of a snapshot: what is read from a disk is not to be trusted."""
    if not (isinstance(path, str) and isinstance(size, int) and isinstance(sha256, str)):
        raise ValueError("it does not describe a file")
    if {"", ".", ".."} & set(path.split("/")) or "\0" in path or size < 0:
        raise ValueError(f"{shown(path)} is no path within a snapshot")
    return Twin(path, size, sha256)
