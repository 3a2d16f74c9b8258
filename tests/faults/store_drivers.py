"""Store-driving processes to be killed: one helper process forks them at once, so that a trial costs no interpreter start.

Run as a script it is that helper: a line of JSON on stdin per driver, the driver's pid on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


class Drivers:
    """The helper, seen from a test."""

    def __enter__(self) -> Drivers:
        self._helper = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True, bufsize=1
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for driver in children(self._helper.pid):  # a test that failed may have left one running
            kill(driver)
        self._helper.communicate(timeout=120)

    def start(self, base: Path, ids: list[str], rate: float = 0.0, speed: float = 50.0) -> int:
        """The pid of a new driver, which promises `ids` and pumps until nothing is left to do."""
        assert self._helper.stdin
        assert self._helper.stdout
        self._helper.stdin.write(json.dumps([str(base), ids, rate, speed]) + "\n")
        return int(self._helper.stdout.readline())


def children(pid: int) -> list[int]:
    """The pids of a process's children; none if it is gone."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid: int) -> None:
    """kill -9, at once; gone already is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    """Does it still run (a zombie does not)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def drive(base: Path, ids: list[str], rate: float, speed: float) -> None:
    """What a daemon does with its store; each published id is appended to `base`/told in one write."""
    import dataclasses

    from smart_monitor.snapshots.store import Store
    from tests.snapshots.runs import METADATA, ROOMY, STATUS, Clock, chosen, decision

    clock = Clock(speed)
    store = Store(base, dataclasses.replace(ROOMY, copy_rate_mb=rate))
    store.sweep()
    told = os.open(base / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    events = store.recover()
    for name in ids:
        store.begin(decision(name), METADATA, STATUS, clock())
    while events or store.busy:
        for event in events:
            os.write(told, f"{event.state} {event.id} {event.name}\n".encode())
        events = store.pump(clock(), chosen(base))
        time.sleep(0.002)
    store.stop(0)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    import tests.snapshots.runs  # noqa: F401 - imported before the forks, for their speed

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        base, ids, rate, speed = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                drive(Path(base), ids, rate, speed)
                code = 0
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
