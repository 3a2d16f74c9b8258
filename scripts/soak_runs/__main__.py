"""The soak's command line. `scripts/soak` makes the environment for it."""

from __future__ import annotations

import argparse
import collections
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from scripts.soak_runs.faults import FAULTS
from scripts.soak_runs.trial import Outcome, run


def main() -> int:
    options = argparse.ArgumentParser(
        prog="scripts/soak",
        description="A trainer, a real monitor beside it, and something that goes wrong, many times over. "
        "Exits 1 if a promise was broken; the directory of such a trial is left to be looked at.",
    )
    options.add_argument("--trials", type=int, default=1000, help="how many (1000)")
    options.add_argument("--seed", type=int, default=int(time.time()), help="repeats the chances of an earlier soak")
    options.add_argument("--jobs", type=int, default=6, help="trials at a time; most of one is waiting (6)")
    options.add_argument("--only", default="", choices=["", *(f.__name__ for f in FAULTS)], help="this fault only")
    given = options.parse_args()
    print(f"{given.trials} trials, {given.jobs} at a time, --seed {given.seed}", flush=True)
    began = time.monotonic()
    with ProcessPoolExecutor(given.jobs) as pool:
        jobs = [pool.submit(run, number, given.seed, given.only) for number in range(given.trials)]
        outcomes = [told(job.result(), given.seed) for job in as_completed(jobs)]
    print(report(outcomes))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(o.wrong for o in outcomes))


def told(outcome: Outcome, seed: int) -> Outcome:
    """Say at once what is wrong: the rest may take long."""
    for sentence in outcome.wrong:
        print(f"trial {outcome.number} ({outcome.fault}, seed {seed}): {sentence}  [{outcome.directory}]", flush=True)
    return outcome


def report(outcomes: list[Outcome]) -> str:
    """A row for each fault."""
    by_fault: dict[str, list[Outcome]] = collections.defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.fault].append(outcome)
    rows = [f"{'fault':<16} {'trials':>6} {'wrong':>6} {'checkpoint kept':>16} {'s a trial':>10}"]
    for fault in FAULTS:
        found = by_fault[fault.__name__]
        ran = [o for o in found if not o.skipped]
        if found and not ran:
            rows.append(f"{fault.__name__:<16} skipped: {found[0].skipped}")
        elif ran:
            kept, seconds = sum(o.kept for o in ran), sum(o.seconds for o in ran) / len(ran)
            wrong = sum(bool(o.wrong) for o in ran)
            rows.append(f"{fault.__name__:<16} {len(ran):>6} {wrong:>6} {kept:>8} of {len(ran):<4} {seconds:>10.1f}")
    ran = [o for o in outcomes if not o.skipped]
    rows.append(f"{'all':<16} {len(ran):>6} {sum(bool(o.wrong) for o in ran):>6} {sum(o.kept for o in ran):>8} of {len(ran):<4}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
