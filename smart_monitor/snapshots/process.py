"""The worker as the daemon sees it: started without waiting, read without blocking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

_ROOT = str(Path(__file__).resolve().parents[2])
# Not `-m`: this finds the package wherever the daemon found it, and skips site-packages, which takes
# most of an interpreter's start and may hold anything. `smart_monitor` stays visible in the process list.
_START = "import sys; sys.path.append(sys.argv[1]); from smart_monitor.snapshots.worker import main; sys.exit(main())"


class Worker:
    """One job under way."""

    code = _START
    flags: tuple[str, ...] = ("-I", "-S", "-X", "utf8")
    """Of the interpreter."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Start it. Raises OSError if no process can be made."""
        with _handed_over({**job, "parent": os.getpid()}) as stdin:
            self._process = subprocess.Popen(
                [sys.executable, *self.flags, "-c", self.code, _ROOT],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._text = self._noise = b""
        self.bytes = 0
        """Bytes read so far, copying and verifying, as last told."""
        self._result: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

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
            self.bytes = int(message.get("progress", self.bytes))
        except (ValueError, AttributeError):
            self._noise = (self._noise + b" " + line)[-4000:]  # a traceback: kept for the reason of death
            return
        if "result" in message:
            self._result = message


def _handed_over(job: dict[str, Any]) -> IO[bytes]:
    """The job in an unnamed file: a pipe would make the daemon wait for a large one to be read."""
    try:
        file: IO[bytes] = os.fdopen(os.memfd_create("smart-monitor-job", os.MFD_CLOEXEC), "w+b")
    except (AttributeError, OSError):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(json.dumps(job).encode())
    file.seek(0)
    return file
