"""Processes as the kernel tells of them: whether one still is the same, what it does, how it ended.

A process is known by its pid and the tick of the clock at which it was created: pids are given out again. All of it is
read from /proc in microseconds; what may not be read is None.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

HERTZ = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of include/linux/sched.h."""
ENDED = "ZXx"
DOING = {"R": "running", "S": "sleeping", "I": "sleeping", "D": "blocked", "T": "stopped", "t": "stopped"}

_INFO = struct.Struct("QQ11Ii")
"""struct pidfd_info of include/uapi/linux/pidfd.h, its first version (64 bytes)."""
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
"""PIDFD_GET_INFO, since Linux 6.13; exit codes since 6.15."""
_EXIT = 1 << 3
MOST_HANDLES = 64


@dataclass(frozen=True, slots=True)
class Process:
    """One look at a process."""

    pid: int
    started: int
    """Clock ticks after boot at which it was created."""
    parent: int
    doing: str
    """running, sleeping, blocked (in the kernel, on a disk or a device) or stopped; empty once it has ended."""
    cpu: float
    """Seconds of processor time, all threads."""
    rss: int
    """Resident bytes."""
    code: int | None
    """Of one that has ended and waits for its parent: its wait status, if we may know."""
    kernel: bool = False

    @property
    def ended(self) -> bool:
        return not self.doing


def said(path: str) -> bytes:
    """What a small file of the kernel says: /proc and /sys give it whole at one read. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 14)
    finally:
        os.close(fd)


def look(pid: int) -> Process | None:
    """The process `pid` of our own namespace; None if there is none (that we may see)."""
    try:
        fields = said(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        state = fields[0].decode()
        ended = state in ENDED
        return Process(
            pid, int(fields[19]), int(fields[1]), "" if ended else DOING.get(state, "sleeping"),
            (int(fields[11]) + int(fields[12])) / HERTZ, int(fields[21]) * PAGE, int(fields[49]) if ended else None,
            bool(int(fields[6]) & KERNEL_THREAD),
        )  # fmt: skip
    except (OSError, ValueError, IndexError):
        return None


def since(started: int) -> float:
    """The unix time of a tick after boot."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started / HERTZ


def owner(pid: int) -> int | None:
    """The uid that a process runs as."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def concerns(pid: int, places: Sequence[str]) -> bool:
    """May the process have to do with training in one of `places` (directories)?

    It runs Python, or stands in or above one of them, or was given one as an argument. True where we may not look: another
    user's process is not judged by what can't be seen of it.
    """
    try:
        command, stands = said(f"/proc/{pid}/cmdline"), os.readlink(f"/proc/{pid}/cwd")
        if b"python" in command or os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("python"):
            return True
    except PermissionError:
        return pid != 1
    except OSError:
        return False
    return any(
        place.encode() in command or (len(stands) > 1 and (_within(place, stands) or _within(stands, place))) for place in places
    )


def _within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer.rstrip('/')}/")


@lru_cache(maxsize=1)
def boot() -> str:
    """The identity of this boot; empty where it can't be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Handle:
    """A descriptor on a process, for what the kernel tells of its end to who is not its parent. Absent, it knows nothing."""

    held = 0
    """How many there are: descriptors are few, and a monitor of a thousand runs needs them for other things."""

    def __init__(self, pid: int) -> None:
        self._fd: int | None = None
        if Handle.held < MOST_HANDLES:
            try:
                self._fd = os.pidfd_open(pid)
            except (OSError, AttributeError):
                return  # too many files, or a kernel before 5.3
            Handle.held += 1

    def code(self) -> int | None:
        """The wait status of a process that has ended; None if it has not, or nobody knows."""
        if self._fd is None:
            return None
        told = bytearray(_INFO.pack(_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._fd, _GET_INFO, told)
        except OSError:
            return None
        mask, *_, code = _INFO.unpack(told)
        return int(code) if mask & _EXIT else None

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            Handle.held -= 1


def in_words(code: int | None) -> str:
    """How a process ended, by its wait status."""
    if code is None:
        return "it is gone"
    if os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        try:
            return f"it was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"it was killed by signal {number}"
    return f"it exited with code {os.WEXITSTATUS(code)}"
