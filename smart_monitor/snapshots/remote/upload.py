"""One snapshot to the remote: its files, each proven to stand there, then metadata.json, then SHA256SUMS.

So whoever sees SHA256SUMS there sees a whole snapshot, and so does whoever sees metadata.json.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.listing import read_metadata
from smart_monitor.snapshots.names import is_inside, shown
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.publish import METADATA
from smart_monitor.snapshots.remote.place import Found, Remote, Tags
from smart_monitor.snapshots.remote.records import DONE, Record

PIECE, SMALL_PIECE = 2**20, 2**16


class Refused(Exception):
    """This snapshot can't be sent, and trying again does not mend it. The text is one sentence."""


class Gone(Exception):
    """The snapshot was deleted here while it was sent."""


class Unproven(OSError):
    """What stands at the remote is not what was sent."""


class Sent(NamedTuple):
    """A snapshot that stands at the remote."""

    bytes: int
    """Of all its files."""
    sent: int
    """Bytes that were sent for it now."""
    seconds: float
    proof: str
    """How the last files sent were proven, in words."""


class Upload:
    """Sends one snapshot. What stands there already, with the right size and digest, is not sent again."""

    def __init__(
        self, snapshot: Path, folder: str, remote: Remote, record: Record, pace: Pace, *,
        overwrite: bool = False, thorough: bool = False,
    ) -> None:  # fmt: skip
        """`folder` at the remote. `overwrite`: what is not known to be ours is replaced as well.
        `thorough`: every byte there is read again."""
        self._snapshot, self._folder, self._remote, self._record, self._pace = snapshot, folder, remote, record, pace
        self._overwrite, self._thorough = overwrite, thorough
        self._sent = 0
        self._proofs: set[str] = set()

    def perform(self) -> Sent:
        """Raises Refused, Gone, Unproven, OSError or what else the remote raises; then no manifest was put there."""
        began = time.monotonic()
        content, digests, sizes = self._manifest()
        manifest = hashlib.sha256(content).hexdigest()
        stands = self._is_manifest_there(len(content), manifest)
        for name in (*sorted(digests.keys() - {METADATA}), METADATA):
            self._ensure(name, sizes[name], digests[name], ours=stands, trusted=stands and not self._thorough)
        if not stands:
            self._ensure(sums.NAME, len(content), manifest)
        self._record.close(DONE)
        total = sum(sizes.values()) + len(content)
        return Sent(total, self._sent, time.monotonic() - began, " and ".join(sorted(self._proofs)))

    def _manifest(self) -> tuple[bytes, dict[str, str], dict[str, int]]:
        """The bytes of SHA256SUMS, path -> digest, path -> bytes."""
        try:
            content = (self._snapshot / sums.NAME).read_bytes()
            digests = sums.parse(content)
            sizes = {str(f["path"]): int(f["bytes"]) for f in read_metadata(self._snapshot)["files"]}
            sizes[METADATA] = (self._snapshot / METADATA).stat().st_size
        except FileNotFoundError:
            raise self._lost(METADATA) from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refused(f"it is damaged here and is not sent: its manifest can't be used ({error})") from error
        if sizes.keys() != digests.keys() or not all(map(is_inside, digests)):
            raise Refused("it is damaged here and is not sent: SHA256SUMS and metadata.json name different files")
        for name in digests:
            if not name.isprintable():
                raise Refused(f"a remote can't carry the name of its file {shown(name)}")
        return content, digests, sizes

    def _is_manifest_there(self, size: int, digest: str) -> bool:
        found = self._remote.find(self._at(sums.NAME))
        if found is None:
            return False
        if found.bytes == size and self._digest(sums.NAME) == digest:
            return True
        if not self._overwrite and sums.NAME not in self._record.begun:
            raise Refused(f"{self._remote.at(self._at(sums.NAME))} is another snapshot's; it is not overwritten")
        return False

    def _ensure(self, name: str, size: int, digest: str, *, ours: bool = False, trusted: bool = False) -> None:
        """This file stands there when this returns. `trusted`: its manifest stands, so its size alone is looked at."""
        found = self._remote.find(self._at(name))
        if found is not None and found.bytes == size and (trusted or self._is_proven(name, found, digest)):
            return
        if found is not None and not ours and not self._overwrite and name not in self._record.begun:
            raise Refused(
                f"{self._remote.at(self._at(name))} has other content and is not known to be ours; it is not overwritten"
            )
        self._record.begin(name)
        tags = Tags(self._remote.block(size))
        self._remote.put(self._at(name), self._read(name, digest, tags), size)
        self._sent += size
        self._prove(name, size, digest, tags)

    def _is_proven(self, name: str, found: Found, digest: str) -> bool:
        if not self._thorough and found.tag and self._record.files.get(name) == [found.bytes, found.tag]:
            return True
        if self._digest(name) != digest:
            return False
        self._record.prove(name, found.bytes, found.tag)
        return True

    def _prove(self, name: str, size: int, digest: str, tags: Tags) -> None:
        found = self._remote.find(self._at(name))
        if found is None or found.bytes != size:
            length = "nothing" if found is None else f"{found.bytes} bytes"
            raise Unproven(f"{self._remote.at(self._at(name))} holds {length} after {size} bytes were sent")
        if tags.match(found.tag):
            self._proofs.add("the store's own checksums")
        elif self._digest(name) == digest:
            self._proofs.add("reading it back")
        else:
            raise Unproven(f"{self._remote.at(self._at(name))} does not read back as it was sent")
        self._record.prove(name, size, found.tag)

    def _digest(self, name: str) -> str:
        sha = hashlib.sha256()
        for piece in self._remote.read(self._at(name)):
            sha.update(piece)
            self._pace.spent(len(piece))
        return sha.hexdigest()

    def _read(self, name: str, digest: str, tags: Tags) -> Iterator[bytes]:
        """The bytes of a local file; raises Refused after the last of them if they are not those once published."""
        piece_size = PIECE if self._pace.chunk >= PIECE else SMALL_PIECE
        sha, offset = hashlib.sha256(), 0
        try:
            fd = os.open(self._snapshot / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._lost(name) from None
        try:
            while piece := os.pread(fd, piece_size, offset):
                sha.update(piece)
                tags.update(piece)
                yield piece
                os.posix_fadvise(fd, offset, len(piece), os.POSIX_FADV_DONTNEED)  # the trainer needs the page cache more
                offset += len(piece)
                self._pace.spent(len(piece))
        finally:
            os.close(fd)
        if sha.hexdigest() != digest:
            raise Refused(f"it is damaged here and is not sent: {shown(name)} is no longer what SHA256SUMS says")

    def _lost(self, name: str) -> Exception:
        if not self._snapshot.is_dir():
            return Gone(self._snapshot.name)
        return Refused(f"it is damaged here and is not sent: {shown(name)} is missing")

    def _at(self, name: str) -> str:
        return f"{self._folder}/{name}"
