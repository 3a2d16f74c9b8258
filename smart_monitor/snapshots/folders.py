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


def write_private(path: Path, content: bytes) -> None:
    """A file of ours, 0600, replaced whole or not at all and on the disk when this returns. Raises OSError."""
    make_private(str(path.parent.absolute()))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
