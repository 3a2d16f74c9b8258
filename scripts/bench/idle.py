#!/usr/bin/env python3
"""Memory and processor time of the daemon beside a trainer that writes its status once a second."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rig import Daemon, Trainer, parser, verdict

RSS_BAR = 40.0
CPU_BAR = 0.15
WARM_UP = 10


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
    with Daemon(base, python) as daemon:
        pace(trainer, WARM_UP)
        cpu, began = daemon.cpu_seconds(), time.monotonic()
        pace(trainer, seconds)
        share = 100 * (daemon.cpu_seconds() - cpu) / (time.monotonic() - began)
        resident, unshared = daemon.memory()
    print(f"Idle beside a writer of one status a second, {seconds} s, {python}:")
    fine = verdict("resident memory", resident, RSS_BAR, "MB")
    print(f"  {'of it unshared':<34} {unshared:9.3f} MB")
    return 0 if verdict("processor", share, CPU_BAR, "%") and fine else 1


def pace(trainer: Trainer, seconds: int) -> None:
    """One status a second, for so many seconds, without drifting."""
    began = time.monotonic()
    for number in range(1, seconds + 1):
        trainer.write()
        time.sleep(max(0.0, began + number - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
