"""Names: of a snapshot's directory, of the partial it grows in, and of files inside sentences."""

from __future__ import annotations

import os
import re
import socket
import time

MAX_REASON = 120
"""Bytes of the reason within a directory name; its alphabet is ASCII."""

SNAPSHOT = re.compile(r"anomaly_([0-9]{8})_([0-9]{6})_([A-Za-z0-9._-]{1,120}?)(?:_([0-9]+))?")
PARTIAL = re.compile(r"\.partial-(?P<host>[A-Za-z0-9._-]+)-(?P<pid>[0-9]+)-(?P<start>[0-9]+)-(?P<name>anomaly_.+)")


def safe_reason(reason: str) -> str:
    """`reason` as part of a file name: ASCII letters, digits, `.`, `_`, `-`; at most 120 bytes, never empty."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", reason)[:MAX_REASON] or "unnamed"


def stamp(created: float) -> str:
    """YYYYMMDD_HHMMSS in local time."""
    return time.strftime("%Y%m%d_%H%M%S", time.localtime(created))


def directory_name(created: float, reason: str) -> str:
    """The name of the snapshot of a decision taken at `created` (unix seconds)."""
    return f"anomaly_{stamp(created)}_{safe_reason(reason)}"


def host() -> str:
    """This machine, as far as a partial's name carries it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:48] or "unnamed"


def process_start(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X", b"x") else fields[19].decode()


def partial_name(name: str) -> str:
    """The name under which this process lets the snapshot `name` grow."""
    return f".partial-{host()}-{os.getpid()}-{process_start(os.getpid())}-{name}"


def boot_id() -> str:
    """The identity of this boot of this machine; empty where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def shown(name: str) -> str:
    """A name fit for a sentence on one line: what can't be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name)


def is_inside(path: str) -> bool:
    """Does a POSIX path, followed from a directory, stay below it?"""
    return not path.startswith("/") and not {"", ".", ".."} & set(path.split("/"))
