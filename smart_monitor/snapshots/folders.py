"""Directories of ours: private whatever the umask."""

from __future__ import annotations

import os


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
