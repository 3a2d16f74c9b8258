#!/usr/bin/env python3
"""Memory and processor time of the daemon beside a trainer that writes its status once a second.

Beside the same trainer runs a bare loop of the same libraries: watchdog's observer, a stat every half second, each status
parsed, the host's figures every ten seconds. It judges and writes nothing: what it takes, a machine asks of anyone who looks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig import Daemon, Process, Trainer, parser, verdict

RSS_BAR = 40.0
CPU_BAR = 0.15
WARM_UP = 10
LOOP = """
import json, os, sys, threading, psutil
from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEventHandler
from watchdog.observers import Observer
path, woken, seen, turns = sys.argv[1], threading.Event(), None, 0
class Handler(FileSystemEventHandler):
    def dispatch(self, event):
        if path in (event.src_path, event.dest_path):
            woken.set()
observer = Observer()
observer.schedule(Handler(), os.path.dirname(path), event_filter=[FileMovedEvent, FileClosedEvent])
observer.start()
while True:
    woken.wait(0.5)
    woken.clear()
    found = os.stat(path)
    if (found.st_ino, found.st_mtime_ns, found.st_size) != seen:
        seen = found.st_ino, found.st_mtime_ns, found.st_size
        with open(path, 'rb') as file:
            json.load(file)
    turns += 1
    if turns % 20 == 0:
        psutil.cpu_percent(None), psutil.virtual_memory(), psutil.disk_usage(os.path.dirname(path))
"""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=int, default=180, help="seconds measured, after ten of warming up")
    given = options.parse_args()
    seconds = 20 if given.quick else given.seconds
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as directory:
        return measure(Path(directory), given.python, seconds)


def measure(base: Path, python: str, seconds: int) -> int:
    """Run, print, and judge: 0 if both bars hold."""
    trainer = Trainer(base)
    trainer.write()
    with Daemon(base, python) as daemon, bare_loop(python, trainer.path) as loop:
        pace(trainer, WARM_UP)
        cpu, bare, began = daemon.cpu_seconds(), loop.cpu_seconds(), time.monotonic()
        pace(trainer, seconds)
        took = time.monotonic() - began
        share, floor = 100 * (daemon.cpu_seconds() - cpu) / took, 100 * (loop.cpu_seconds() - bare) / took
        resident, unshared = daemon.memory()
    print(f"Idle beside a writer of one status a second, {seconds} s, {python}:")
    fine = verdict("resident memory", resident, RSS_BAR, "MB")
    print(f"  {'of it unshared':<34} {unshared:9.3f} MB")
    fine &= verdict("processor", share, CPU_BAR, "%")
    print(f"  {'a bare loop beside it':<34} {floor:9.3f} %     ours is {share / floor:.1f} times that")
    return 0 if fine else 1


@contextmanager
def bare_loop(python: str, path: Path) -> Iterator[Process]:
    """The loop beside the trainer, until the block ends."""
    started = subprocess.Popen([python, "-c", LOOP, str(path)])
    try:
        yield Process(started)
    finally:
        started.kill()
        started.wait()


def pace(trainer: Trainer, seconds: int) -> None:
    """One status a second, for so many seconds, without drifting."""
    began = time.monotonic()
    for number in range(1, seconds + 1):
        trainer.write()
        time.sleep(max(0.0, began + number - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
