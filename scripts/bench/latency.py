#!/usr/bin/env python3
"""From a trainer's write to the line in the log, and to the finding in events.jsonl; with file events and without them.

Each write is a new step and waits until the one before was seen, then up to half a second more, so that writes fall anywhere in
the daemon's rhythm. Every twentieth loss is three times too high: that is a finding (without the noise guard, which would rightly
come to take such spikes for this run's nature).
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from rig import Daemon, Tail, Trainer, parser, verdict

MEDIAN_BAR, WORST_BAR = 20.0, 700.0
"""Milliseconds. The median holds where file events come; the 99th of a hundred holds also where they don't."""
GIVE_UP = 5.0
CALM, EVERY = 30, 20
STEP = re.compile(r"Monitoring: Step (\d+)")


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--writes", type=int, default=500, help="statuses written in each of the two ways")
    given = options.parse_args()
    writes = 60 if given.quick else given.writes
    fine = True
    for events in (True, False):
        with tempfile.TemporaryDirectory(prefix="bench-latency-") as directory:
            logged, found, spikes = measure(Path(directory), given.python, writes, events)
        print(f"Write to line, {writes} writes, {'with' if events else 'without'} file events:")
        fine &= report("line in the log", logged, writes, events)
        fine &= report("finding in events.jsonl", found, spikes, events)
    return 0 if fine else 1


def measure(base: Path, python: str, writes: int, events: bool) -> tuple[list[float], list[float], int]:
    """Milliseconds to each log line and to each finding, and how many findings were provoked."""
    trainer, dice = Trainer(base), random.Random(1)
    logged: list[float] = []
    found: list[float] = []
    trainer.write()
    with Daemon(
        base, python, {"SMART_MONITOR_WATCHDOG": "true" if events else "false", "SMART_MONITOR_NOISE_GUARD": "false"}
    ) as daemon:
        log, journal = Tail(daemon.log()), Tail(base / "logs" / "events.jsonl")
        spikes = 0
        for number in range(CALM + writes):
            spike = number >= CALM and number % EVERY == 0
            spikes += spike
            at = trainer.write(3.0 if spike else 1.0)
            line, finding = await_step(log, journal, trainer.step, at, spike)
            if number >= CALM:
                logged += [line] if line is not None else []
                found += [finding] if spike and finding is not None else []
            daemon.must_live()
            time.sleep(dice.uniform(0, 0.5))
    return logged, found, spikes


def await_step(log: Tail, journal: Tail, step: int, at: float, spike: bool) -> tuple[float | None, float | None]:
    """Milliseconds from `at` until the step stands in the log and, for a spike, among the findings; None: it never came."""
    line = finding = None
    while time.monotonic() < at + GIVE_UP and (line is None or (spike and finding is None)):
        for text in log.lines():
            match = STEP.search(text)
            if match and int(match[1]) == step:
                line = 1000 * (time.monotonic() - at)
        for text in journal.lines():
            event = json.loads(text)
            if event["event"] == "finding" and event["step"] == step:
                finding = 1000 * (time.monotonic() - at)
        time.sleep(0.001)
    return line, finding


def report(what: str, times: list[float], wanted: int, events: bool) -> bool:
    """Print and judge: none missed, the median where there are events, the 99th of a hundred always."""
    fine = verdict(f"{what}: missed, of {wanted}", wanted - len(times), 0, "")
    if not times:
        return False
    times = sorted(times)
    median, late = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    if events:
        fine &= verdict(f"{what}: median", median, MEDIAN_BAR, "ms")
    else:
        print(f"  {what + ': median':<34} {median:9.3f} ms")
    return verdict(f"{what}: 99th of a hundred", late, WORST_BAR, "ms") and fine


if __name__ == "__main__":
    sys.exit(main())
