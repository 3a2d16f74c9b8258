"""The remote: a place behind fsspec where objects are put whole, found, and read back."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import fsspec

from smart_monitor.snapshots.remote.address import shown_as

BLOCK = 8 * 2**20
"""Bytes of one part of a large object, the most that is held in memory; a multiple of every size of piece."""
PARTS = 9_000
"""S3 takes 10 000 parts at most."""
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "ocilake", "oss", "memory"})
"""Here an object appears whole under its name or not at all, and there are no directories to make."""


class Found(NamedTuple):
    """An object that stands at the remote."""

    bytes: int
    tag: str
    """What the remote gives it that changes with its content; empty if it gives nothing such."""


class Tags:
    """What a store would say of the bytes that are sent, if it has received exactly these."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._whole = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []
        self._count = 0

    def update(self, piece: bytes) -> None:
        """The next bytes; pieces never cross the border of a block."""
        self._whole.update(piece)
        self._part.update(piece)
        self._count += len(piece)
        if self._count % self._block == 0:
            self._parts.append(self._part.digest())
            self._part = hashlib.md5(usedforsecurity=False)

    def match(self, tag: str) -> bool:
        """Is `tag` the MD5 of the bytes, or of the MD5s of their parts as S3 forms it?

        S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html (not with KMS or
        customer keys: there it is something else, and False here); Google gives an MD5 in base64.
        """
        parts = [*self._parts, self._part.digest()] if self._count % self._block else self._parts
        joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
        whole = self._whole
        return tag in (whole.hexdigest(), f"{joined}-{len(parts)}", base64.b64encode(whole.digest()).decode())


class Remote:
    """PREFIX of the remote; names are POSIX paths below it. Methods raise what the file system raises."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Raises ImportError if what the protocol needs is not installed, ValueError if nobody knows it."""
        self.url = url
        # Nothing remembered: neither listings from before an upload nor credentials that have been renewed since.
        self._fs, root = fsspec.core.url_to_fs(url, **{"skip_instance_cache": True, "use_listings_cache": False, **options})
        self._root = str(root).rstrip("/")
        protocols = (self._fs.protocol,) if isinstance(self._fs.protocol, str) else tuple(self._fs.protocol)
        self._object_store = bool(OBJECT_STORES & set(protocols))
        self.directory = self._root if "file" in protocols else None
        """Where the remote lies in our own file system; None if it does not."""

    def at(self, name: str) -> str:
        """Where `name` stands, for a person."""
        return f"{shown_as(self.url)}/{name}"

    def find(self, name: str) -> Found | None:
        """The object `name`; None if there is none."""
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(self._path(name))
        except FileNotFoundError:
            return None
        if info.get("type") != "file" or info.get("size") is None:
            return None
        tag = next((info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if info.get(key)), "")
        return Found(int(info["size"]), str(tag).strip('"'))

    def block(self, size: int) -> int:
        """Bytes of one part of an object of that size."""
        return BLOCK * max(1, -(-size // (BLOCK * PARTS)))

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        """Make `name` of these bytes. It appears whole, or what stood there stays; so too if `pieces` raises."""
        path = self._path(name)
        if self._object_store:
            file = self._fs.open(path, "wb", block_size=self.block(size))
            try:
                for piece in pieces:
                    file.write(piece)
                file.close()
            except BaseException:
                with suppress(Exception):
                    file.discard()
                file.closed = True  # else its end would send what there is of it
                raise
        else:
            self._put_beside(path, pieces)

    def _put_beside(self, path: str, pieces: Iterable[bytes]) -> None:
        folder, _, name = path.rpartition("/")
        growing = f"{folder}/.{name}.growing"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            with self._fs.open(growing, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                if self.directory is not None:
                    file.flush()
                    os.fsync(file.fileno())
            if self.directory is None:
                self._fs.mv(growing, path)
            else:
                os.replace(growing, path)
                _sync(folder)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(growing)
            raise

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of `name`, in pieces."""
        with self._fs.open(self._path(name), "rb", block_size=BLOCK) as file:
            while piece := file.read(BLOCK):
                yield piece

    def names(self, folder: str) -> list[str]:
        """The names right below `folder`, sorted; none if there is nothing."""
        self._fs.invalidate_cache()
        try:
            return sorted(
                str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in self._fs.ls(self._path(folder), detail=True)
            )
        except FileNotFoundError:
            return []

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
