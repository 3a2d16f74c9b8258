"""Monitors forked from a helper that has imported them already: most of what they cost a test is the start of an interpreter.

Run as a script it is that helper. It forks before any thread is begun, and from `main` on a monitor of its is one like any other.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOST = 1 << 18
"""Bytes of a request: arguments and environment."""


class Helper:
    """The helper, as its tests speak to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        self._process = subprocess.Popen([sys.executable, __file__, str(number)], cwd=ROOT, pass_fds=[number])
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()

    def ask(self, request: Mapping[str, Any], *files: int) -> int:
        socket.send_fds(self._channel, [json.dumps(request).encode()], files)
        answer = self._channel.recv(64)
        assert answer, "the helper that forks monitors has died"
        return int(answer)


@functools.cache
def helper() -> Helper:
    """The one of this process, started when it is first needed."""
    return Helper()


class Forked:
    """A forked monitor: as much of subprocess.Popen as tests of a monitor ask for."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], stderr: int) -> None:
        self.pid = helper().ask({"arguments": list(arguments), "environment": dict(environment)}, stderr)
        self.returncode: int | None = None
        self._handle = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        return self._end(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._end(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"monitor {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """To a zombie it does nothing, and the number is nobody else's before `poll` or `wait` have seen the end."""
        if self.returncode is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._handle], [], [], timeout)[0]:
            self.returncode = helper().ask({"ended": self.pid})
            os.close(self._handle)
        return self.returncode


def serve(channel: socket.socket) -> None:
    """Fork until nobody asks any more; in a fork this ends as the monitor does."""
    import smart_monitor.cli.watch
    import smart_monitor.daemon.loop  # before the forks, for their speed
    from smart_monitor.registry import rule_classes

    rule_classes()
    while True:
        data, files, _, _ = socket.recv_fds(channel, MOST, 1)
        if not data:
            return
        request = json.loads(data)
        if "ended" in request:
            channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(request["ended"], 0)[1]))
            continue
        [stderr] = files
        if pid := os.fork():
            os.close(stderr)
            channel.send(b"%d" % pid)
            continue
        channel.close()
        become(request, stderr)
        smart_monitor.cli.main()


def become(request: Mapping[str, Any], stderr: int) -> None:
    """Take on what an interpreter would have been started with."""
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    os.dup2(stderr, 2)
    os.close(stderr)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = ["smart-monitor", *request["arguments"]]


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    serve(socket.socket(fileno=int(sys.argv[1])))
