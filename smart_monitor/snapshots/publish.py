"""From a finished copy to a published snapshot: metadata, checksums, disk, one rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.lock import store_lock

METADATA = "metadata.json"
STATUS = "training_status.json"


class Partial:
    """A snapshot that grows: a directory descriptor and what has been put below it so far."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.files: list[dict[str, Any]] = []
        self.missing: list[dict[str, Any]] = []
        self._folders: set[str] = set()

    def create(self, path: str) -> int:
        """A new, empty file 0600 at POSIX `path`, its directories 0700. Raises OSError."""
        self._make_folders(path)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def link(self, folder: int, name: str, path: str) -> None:
        """One more name, POSIX `path`, for the file `name` of a directory of ours. Raises OSError."""
        self._make_folders(path)
        os.link(name, path, src_dir_fd=folder, dst_dir_fd=self.fd, follow_symlinks=False)

    def keep(self, path: str, size: int, sha256: str, how: str) -> None:
        """Enter a file that is complete: `how` is clone, copy or shared (that one has been read back already)."""
        self.files.append({"path": path, "bytes": size, "sha256": sha256, "how": how})

    def _make_folders(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            folder = "/".join(parts[:i])
            if folder not in self._folders:
                os.mkdir(folder, 0o700, dir_fd=self.fd)
                self._folders.add(folder)

    def write(self, path: str, content: bytes) -> str:
        """A small file, on the disk when this returns; its sha256."""
        fd = self.create(path)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        return hashlib.sha256(content).hexdigest()

    def drop(self, path: str) -> None:
        """Take back a file that can't be kept."""
        os.unlink(path, dir_fd=self.fd)

    def verify(self, digest: Callable[[int], str]) -> None:
        """Read back what was written. Raises OSError if it is not what was to be."""
        for file in self.files:
            if file["how"] == "shared":
                continue
            fd = os.open(file["path"], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                length, found = os.fstat(fd).st_size, digest(fd)
            finally:
                os.close(fd)
            if (length, found) != (file["bytes"], file["sha256"]):
                raise OSError(None, f"{file['path']} did not read back as it was written")

    def sync_folders(self) -> None:
        """Bring the names to the disk, the deepest directories first."""
        for folder in sorted(self._folders, key=lambda f: f.count("/"), reverse=True):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        os.fsync(self.fd)


def publish(
    partial: Partial,
    temporary: str,
    name: str,
    document: dict[str, Any],
    *,
    snapshots: int,
    folder: str,
    point: Callable[[], None],
) -> str:
    """Give a verified partial its name, `_2` and so on if that is taken; the name it got.

    If a snapshot of the same decision stands there already (an earlier worker's, whose word never
    arrived), its name is returned and the partial is left for the caller to remove. `point` is called
    right before the rename and may raise to call it off. Raises OSError; what is visible is whole in any case.
    """
    with store_lock(folder):
        final, number = name, 1
        while (taken := decision_of(final, snapshots)) is not None:
            if taken == document["id"]:
                return final
            number += 1
            final = f"{name}_{number}"
        text = json.dumps({**document, "snapshot_name": final, "missing": partial.missing, "files": partial.files}, indent=2)
        digests = {file["path"]: file["sha256"] for file in partial.files}
        digests[METADATA] = partial.write(METADATA, (text + "\n").encode())
        partial.write(sums.NAME, sums.render(digests))
        partial.sync_folders()
        point()
        os.rename(temporary, final, src_dir_fd=snapshots, dst_dir_fd=snapshots)
        os.fsync(snapshots)
        return final


def decision_of(name: str, snapshots: int) -> str | None:
    """The id of the decision behind a snapshot, "" if it does not tell, None if nothing has that name."""
    try:
        os.stat(name, dir_fd=snapshots, follow_symlinks=False)
    except FileNotFoundError:
        return None
    try:
        fd = os.open(f"{name}/{METADATA}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=snapshots)
        with open(fd, "rb") as file:
            return str(json.load(file).get("id", ""))
    except (OSError, ValueError, AttributeError):
        return ""
