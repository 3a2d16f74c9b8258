#!/usr/bin/env python3
"""Whether the daemon's memory grows over 100 000 replacements of the status file, written far faster than any trainer would."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rig import Daemon, Trainer, parser, verdict

GROWTH_BAR = 1.0
"""MB between a tenth of the way (buffers are full, caches warm) and the end; a leak of 100 bytes a write would be nine."""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--writes", type=int, default=100_000, help="statuses written")
    options.add_argument("--rate", type=float, default=500, help="writes a second, at most")
    given = options.parse_args()
    writes = 5_000 if given.quick else given.writes
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as directory:
        return measure(Path(directory), given.python, writes, given.rate)


def measure(base: Path, python: str, writes: int, rate: float) -> int:
    """Run, print ten readings on the way, and judge."""
    trainer = Trainer(base)
    readings: list[float] = []
    with Daemon(base, python) as daemon:
        cpu, began = daemon.cpu_seconds(), time.monotonic()
        for number in range(1, writes + 1):
            trainer.write()
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            if number % (writes // 10) == 0:
                time.sleep(1.0)
                began += 1.0
                readings.append(daemon.memory()[0])
        spent = daemon.cpu_seconds() - cpu
    print(f"{writes} replacements of the status file, {spent:.1f} processor seconds; MB resident at each tenth:")
    print("  " + "  ".join(f"{reading:.1f}" for reading in readings))
    return 0 if verdict("growth since the first tenth", readings[-1] - readings[0], GROWTH_BAR, "MB") else 1


if __name__ == "__main__":
    sys.exit(main())
