"""Does a path lie on a network file system, where time stamps come from another clock and arrive late?"""

from __future__ import annotations

import os
import re
from pathlib import Path

_NETWORK = re.compile(
    r"^(nfs|nfs4|cifs|smb3|smbfs|9p|afs|ceph|lustre|gpfs|beegfs.*|glusterfs|orangefs|pvfs2|panfs|wekafs|virtiofs|fuse|fuse\..*)$"
)


def is_network(path: Path, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """True for network and user-space file systems; False where the kernel's table can't be read."""
    return bool(_NETWORK.match(_mount(os.path.realpath(path), mountinfo)[1]))


def mount_point(path: Path, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where the file system of an absolute path is mounted, told without touching it: it may hang. Links are not followed."""
    return _mount(str(path), mountinfo)[0]


def _mount(real: str, mountinfo: str) -> tuple[str, str]:
    """(mount point, type) of the file system that a path lies on; empty words where the kernel's table can't be read."""
    best, kind = "", ""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                before, _, after = line.partition(" - ")
                point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split()[4])
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, after.split()[0]
    except (OSError, IndexError):
        return "", ""
    return best, kind
