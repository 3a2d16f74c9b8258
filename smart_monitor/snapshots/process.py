"""The worker as the daemon sees it: started without waiting, read without blocking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m`: this finds the package wherever the daemon found it, and skips site-packages, which takes
# most of an interpreter's start and may hold anything. `smart_monitor` stays visible in the process list.
_START = "import sys; sys.path.append(sys.argv[1]); from smart_monitor.snapshots.worker import main; sys.exit(main())"


AT_ONCE = 4
"""Copying processes of one daemon, however many runs it watches and whatever befalls all of them in one moment."""


class Places:
    """So many at once; for any thread."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._lock = most, 0, threading.Lock()

    def take(self) -> bool:
        """A place, if one is free; who got it gives it back."""
        with self._lock:
            free = self._taken < self._most
            self._taken += free
            return free

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


class Worker:
    """One job under way."""

    code = _START
    flags: tuple[str, ...] = ("-I", "-S", "-X", "utf8")
    """Of the interpreter."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Start it. Raises OSError if no process can be made."""
        with handed_over({**job, "parent": os.getpid()}) as stdin:
            self._process = subprocess.Popen(
                [sys.executable, *self.flags, "-c", self.code, ROOT],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._text = self._noise = b""
        self.began = time.time()
        self.phase = ""
        """comparing (with what stands in snapshots already), copying or verifying."""
        self.bytes = self.total = 0
        """Bytes of the phase that went by, and all of them, as last told."""
        self.hung = False
        """It was killed because it did not move any more. One that waits for a dead disk ends only when the disk answers."""
        self._heard = self._phase_began = time.monotonic()
        self._result: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def rate(self) -> float:
        """Bytes a second since the phase began; a second is its least."""
        return self.bytes / max(1.0, self._heard - self._phase_began)

    def give_up(self, patience: float) -> bool:
        """Kill it if it has not said a word for `patience` seconds; True only when that is done."""
        if self.hung or time.monotonic() - self._heard < patience:
            return False
        self.hung = True
        self._process.kill()
        return True

    def poll(self) -> dict[str, Any] | None:
        """Read what it said; its result once it has ended, else None. One that died gets the result `died`."""
        ended = self._process.poll() is not None
        self._read()
        if not ended:
            return None
        if self._process.stdout and not self._process.stdout.closed:
            self._process.stdout.close()
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        said = " ".join((self._noise + b" " + self._text).decode("utf-8", "replace").split())[-300:]
        if self.hung and self._result is None:
            return {"result": "hung", "why": "the copying process did not move any more and was ended"}
        return self._result or {"result": "died", "why": f"the copying process died ({how}){': ' if said else ''}{said}"}

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """As `poll`, waiting for the end at most so long."""
        deadline = time.monotonic() + seconds
        while (result := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return result

    def abandon(self, patience: float = 2.0) -> dict[str, Any] | None:
        """End it: politely, then not. Its result, None if even the kernel could not end it (a hung disk)."""
        self._process.terminate()
        if (result := self.wait(patience)) is None:
            self._process.kill()
            result = self.wait(patience)
        return result

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._fd, 65536)
            except (BlockingIOError, OSError):
                return
            if not piece:
                return
            *lines, self._text = (self._text + piece).split(b"\n")
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            self._heard = time.monotonic()
            if "progress" in message:
                if message["phase"] != self.phase:
                    self.phase, self._phase_began = message["phase"], self._heard
                self.bytes, self.total = message["progress"], message["total"]
        except (ValueError, TypeError, KeyError):
            self._noise = (self._noise + b" " + line)[-4000:]  # a traceback: kept for the reason of death
            return
        if "result" in message:
            self._result = message


def handed_over(job: dict[str, Any]) -> IO[bytes]:
    """The job in an unnamed file: a pipe would make the daemon wait for a large one to be read."""
    try:
        file: IO[bytes] = os.fdopen(os.memfd_create("smart-monitor-job", os.MFD_CLOEXEC), "w+b")
    except (AttributeError, OSError):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(json.dumps(job).encode())
    file.seek(0)
    return file
