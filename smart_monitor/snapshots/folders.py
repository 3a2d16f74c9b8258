"""Directories and small files of ours: private whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path


def make_private(path: str) -> None:
    """A directory 0700 with whatever parents it lacks. Raises OSError; there already is fine."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_private(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        os.chmod(path, 0o700)  # a umask may have taken even our own bits


def write_atomically(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace one of our own files whole: 0600, a temporary name, then one rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_private(path: Path, content: bytes) -> None:
    """The same in a directory that is made if it is not there, and on the disk when this returns. Raises OSError."""
    make_private(str(path.parent.absolute()))
    write_atomically(path, content, durable=True)
