"""The copying process: one job on stdin (JSON), progress and one result on stdout (JSON lines).

Only the standard library is imported. It lowers itself below the trainer, dies with the daemon that
started it, and takes its partial with it unless it is killed outright (then the next sweep does).

Results: `published` (name, bytes, seconds, missing, and the files of other snapshots found damaged),
`changed` (the source did not stand still), `space`, `failed`, `stopped`; each but the first with `why`, one
sentence.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from smart_monitor.snapshots import names
from smart_monitor.snapshots.copy import FULL, Changed, Copier
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.groups import Taking, reason_of
from smart_monitor.snapshots.pace import Neighbours, Pace
from smart_monitor.snapshots.partials import remove_tree, sweep
from smart_monitor.snapshots.publish import STATUS, Partial, publish
from smart_monitor.snapshots.sharing import Stock
from smart_monitor.units import size

_PR_SET_PDEATHSIG = 1
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IDLE_CLASS = 3 << 13


class Stopped(Exception):
    """The daemon is gone or wants the copy abandoned."""


class Life:
    """Dies when told to or when the daemon is gone, but never between the last check and the rename."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._stop = False
        self._told = time.monotonic()
        self._phase, self._total, self._bytes = "", 0, 0
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the daemon as well, and the daemon decides
        # The death signal also comes when only the thread that started us ends; getppid tells the two apart.
        signal.signal(signal.SIGHUP, self._on_death_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))  # a daemon may block and wait for them
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
        self.check()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if not self._stop:
            self._stop = True
            raise Stopped("told to stop")

    def _on_death_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getppid() != self._parent:
            self._on_stop(number, frame)

    def check(self) -> None:
        """Raises Stopped if the daemon is gone."""
        if os.getppid() != self._parent:
            self._stop = True
            raise Stopped("the daemon is gone")

    def seal(self) -> None:
        """From here on only the kernel's kill stops us: raises Stopped if it is too late already."""
        if self._stop:
            raise Stopped("told to stop")
        self.deafen()
        self.check()

    def deafen(self) -> None:
        """No signal interrupts what follows: the rename, or the removal of the partial."""
        self._stop = True

    def begin(self, phase: str, total: int) -> None:
        """From now on `total` bytes are to go by: comparing with what stands already, copying, or verifying."""
        self._phase, self._total, self._bytes = phase, total, 0
        self._tell()

    def passed(self, amount: int) -> None:
        """Called for each chunk, and while the rate asks for a pause: checks for the daemon, tells of progress once a second."""
        self.check()
        self._bytes += amount
        if time.monotonic() - self._told >= 1.0:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        say({"progress": min(self._bytes, self._total), "total": self._total, "phase": self._phase})


def say(message: dict[str, Any]) -> None:
    """One line for the daemon. Never raises: a daemon that is gone reads nothing."""
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except OSError:
        return


def lower() -> None:
    """Below everything else: nice 19, idle I/O class. Where that is refused, the copy is merely less shy."""
    with suppress(OSError):
        os.nice(19)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, _IDLE_CLASS)


def perform(job: dict[str, Any], life: Life) -> dict[str, Any]:
    """Copy, verify, publish. Raises Stopped, Changed or OSError; the partial is gone then."""
    began = time.monotonic()
    directory = os.path.join(job["out"], "snapshots")
    for path in (directory, job["folder"]):
        make_private(path)
    require_elsewhere(directory, job["out"], job["theirs"])
    sweep(directory)  # what dead workers left may be the space that is wanted now
    snapshots = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = names.partial_name(job["name"])
    try:  # before the directory is made: a signal may be heard right after
        os.mkdir(temporary, 0o700, dir_fd=snapshots)
        fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=snapshots)
        with suppress(OSError):  # where there are no locks, the name alone tells the owner
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial = Partial(fd)
        partial.missing += job["missing"]
        keep_status(partial, job["status"])
        with Copier(Pace(job["rate"], life.passed, Neighbours() if job["gives_way"] else None)) as copier:
            stock = Stock(snapshots, job["folder"], partial)
            life.begin("comparing", sum(file[2] for group in job["groups"] for file in group["files"]))

            def ready(need: int) -> None:
                require_space(snapshots, job["reserve"], need)
                life.begin("copying", need)

            Taking(partial, copier, stock).take(job["groups"], ready)
            life.begin("verifying", sum(file["bytes"] for file in partial.files if file["how"] != "shared"))
            partial.verify(copier.digest)
        name = publish(
            partial, temporary, job["name"], job["document"], snapshots=snapshots, folder=job["folder"], point=life.seal
        )
        stock.remember(name)
    finally:
        life.deafen()
        with suppress(OSError):  # the next sweep takes what stays
            remove_tree(temporary, snapshots)
    return {
        "result": "published", "name": name, "bytes": sum(file["bytes"] for file in partial.files),
        "seconds": round(time.monotonic() - began, 3), "missing": partial.missing[:20], "damaged": stock.damaged[:20],
    }  # fmt: skip


def hold(job: dict[str, Any], life: Life) -> dict[str, Any]:
    """Copy a checkpoint below `job["hold"]`, a directory of ours. Raises as `perform`; what lies there is no hold then."""
    fd = os.open(job["hold"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    partial = Partial(fd)
    with Copier(Pace(job["rate"], life.passed)) as copier:  # in a race with who rotates: it gives way to nobody
        nothing_to_share = Stock(fd, job["hold"], partial)
        life.begin("copying", sum(file[2] for group in job["groups"] for file in group["files"]))
        Taking(partial, copier, nothing_to_share).take(job["groups"], lambda need: require_space(fd, job["reserve"], need))
    return {"result": "held"}


def require_elsewhere(directory: str, out: str, theirs: list[str]) -> None:
    """Raises OSError if snapshots/ leads into a directory that a trainer owns: nothing is ever written there."""
    if not os.path.islink(directory):
        return
    real = os.path.realpath(directory) + "/"
    for folder in {os.path.realpath(t) for t in (*theirs, os.path.join(out, "current_model"))} - {os.path.realpath(out)}:
        if real.startswith(folder + "/"):
            raise OSError(errno.EPERM, f"snapshots/ is a link into the trainer's directory {names.shown(folder)}")


def require_space(snapshots: int, reserve: dict[str, float] | None, need: int) -> None:
    """Raises OSError (ENOSPC) if less than the reserve would stay free after `need` bytes were written."""
    if reserve is None or not need:
        return
    info = os.fstatvfs(snapshots)
    free, total = info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize
    keep = reserve["bytes"] + max(reserve["floor"], total * reserve["percent"] / 100)
    if free - need < keep:
        said = f"{size(free)} are free, the copy takes {size(need)} and {size(keep)} must stay free"
        raise OSError(errno.ENOSPC, said)


def keep_status(partial: Partial, encoded: str | None) -> None:
    """The raw bytes that the trainer's status consisted of when the decision fell."""
    if encoded is None:
        why = "no status of the trainer was at hand when the decision fell"
        partial.missing.append({"path": STATUS, "why": why})
        return
    status = base64.b64decode(encoded)
    partial.keep(STATUS, len(status), partial.write(STATUS, status), "copy")


def main() -> int:
    """Do the job on stdin; 0 if its snapshot stands, 1 otherwise."""
    job = json.load(sys.stdin.buffer)
    os.umask(0)
    lower()
    try:
        result = (hold if "hold" in job else perform)(job, Life(job["parent"]))
    except Stopped as stopped:
        result = {"result": "stopped", "why": str(stopped)}
    except Changed as changed:
        result = {"result": "changed", "why": str(changed)}
    except OSError as error:
        result = {"result": "space" if error.errno in FULL else "failed", "why": reason_of(error)}
    say(result)
    return 0 if result["result"] == "published" else 1


if __name__ == "__main__":
    sys.exit(main())
