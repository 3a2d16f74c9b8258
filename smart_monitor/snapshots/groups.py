"""From the groups of a job into a partial: every file opened first, then shared or copied."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from smart_monitor.snapshots.copy import FULL, Changed, Copier, Source, open_source
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.publish import Partial
from smart_monitor.snapshots.sharing import Stock

OPEN_AHEAD = 256
"""Sources opened before the first byte is copied, so that a rotation in mid-copy does not lose them."""
_NFS_MAGIC = 0x6969


class Wanted(NamedTuple):
    """One file of a job."""

    group: dict[str, Any]
    root: int
    """Descriptor of the group's directory."""
    source: Source
    fd: int | None
    """Descriptor of the file; None: to be opened when its turn comes."""


class Taking:
    """The groups of one job on their way into a partial.

    A file that may be left out (its group is not `required`) and can't be taken is entered as missing.
    """

    def __init__(self, partial: Partial, copier: Copier, stock: Stock) -> None:
        self._partial, self._copier, self._stock = partial, copier, stock

    def take(self, groups: list[dict[str, Any]], ready: Callable[[int], None]) -> None:
        """Take all; `ready` is told the bytes that are to be written before the first is.

        Raises Changed if a source is not, or no longer, what was seen complete, and OSError.
        """
        rest = [one for one in self._open(groups) if not self._take_one(one, self._share)]
        ready(sum(one.source.bytes for one in rest))
        for one in rest:
            self._take_one(one, self._copy)
        self._copier.pace.hurry = False
        for group in groups:
            require_same_set(group)

    def _open(self, groups: list[dict[str, Any]]) -> list[Wanted]:
        opened: list[Wanted] = []
        for group in groups:
            try:
                root = os.open(group["root"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError as error:
                why = f"{shown(group['root'])} vanished before it could be copied"
                if group["required"]:
                    raise Changed(why) from error
                self._partial.missing.append({"path": group.get("below", "model"), "why": why})
                continue
            # A file held open on NFS makes a rotation's rmdir fail, so there only one is held at a time.
            ahead = 1 if on_nfs(root) else OPEN_AHEAD
            for fields in group["files"]:
                one = Wanted(group, root, Source(*fields), None)
                try:
                    fd = self._open_source(one) if len(opened) < ahead else None
                except (Changed, OSError) as error:
                    self._leave_out(one, error)
                else:
                    opened.append(one._replace(fd=fd))
        return opened

    @staticmethod
    def _open_source(one: Wanted) -> int | None:
        """A descriptor; None if there are none left now."""
        try:
            return open_source(one.group["root"], one.root, one.source)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None
            raise

    def _take_one(self, one: Wanted, how: Callable[[int, Source], bool]) -> bool:
        """Is there nothing more to do for a file, because it was taken or left out?"""
        self._copier.pace.hurry = not one.group["held"]
        try:
            fd = open_source(one.group["root"], one.root, one.source) if one.fd is None else one.fd
            try:
                done = how(fd, one.source)
            finally:
                if one.fd is None:
                    os.close(fd)
        except (Changed, OSError) as error:
            self._leave_out(one, error)
            done = True
        if done and one.fd is not None:
            os.close(one.fd)
        return done

    def _leave_out(self, one: Wanted, error: Changed | OSError) -> None:
        """Enter it as missing; raises the error if the file must not be left out, or the disk is full."""
        if one.group["required"] or getattr(error, "errno", None) in FULL:
            raise error
        self._partial.missing.append({"path": one.source.dest, "why": reason_of(error)})

    def _share(self, fd: int, source: Source) -> bool:
        sha = self._stock.share(fd, source, self._copier)
        if sha is not None:
            self._partial.keep(source.dest, source.bytes, sha, "shared")
        return sha is not None

    def _copy(self, fd: int, source: Source) -> bool:
        if sha := self._stock.share(fd, source, self._copier, own=True):
            self._partial.keep(source.dest, source.bytes, sha, "shared")
            return True
        before = os.fstat(fd)
        dst = self._partial.create(source.dest)
        try:
            sha, how = self._copier.copy(fd, dst, source)
        except (Changed, OSError):
            self._partial.drop(source.dest)
            raise
        finally:
            os.close(dst)
        self._partial.keep(source.dest, source.bytes, sha, how)
        self._stock.add(source.dest, source.bytes, sha)
        self._stock.learn(fd, before, source.dest, source.bytes, sha)
        return True


def require_same_set(group: dict[str, Any]) -> None:
    """Raises Changed if files have appeared in a checkpoint since it was found complete: its writer was not done."""
    if not group["exact"] or not os.path.isdir(group["root"]):
        return
    known = {fields[0] for fields in group["files"]} | set(group["ignored"])
    top = os.path.realpath(group["root"])
    for folder, _, files in os.walk(top):
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), top)
            if path not in known and not file.startswith(".nfs"):  # NFS keeps what we hold open under such a name
                raise Changed(f"{shown(path)} appeared in the checkpoint while it was copied")


def on_nfs(fd: int) -> bool:
    """Is an open file on NFS? False where the C library does not tell."""
    buffer = (ctypes.c_long * 32)()
    return ctypes.CDLL(None).fstatfs(fd, ctypes.byref(buffer)) == 0 and buffer[0] == _NFS_MAGIC


def reason_of(error: Exception) -> str:
    """One clause for a person."""
    if isinstance(error, OSError):
        where = f" ({shown(os.fsdecode(error.filename))})" if error.filename is not None else ""
        return f"{error.strerror or error}{where}"
    return str(error)
