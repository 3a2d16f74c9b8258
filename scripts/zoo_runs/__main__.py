"""The zoo's command line: train and write, or score what was written. `scripts/zoo` makes the environment for it."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from scripts.zoo_runs.cases import Case, plan
from scripts.zoo_runs.scoring import report, score
from scripts.zoo_runs.visible import truths

DIGITS = 5
"""Significant digits written: what trainers print, and a fifth of the bytes."""


def main() -> int:
    options = argparse.ArgumentParser(
        prog="scripts/zoo", description="Small real trainings with planted faults, and their truth."
    )
    options.add_argument(
        "--out", type=Path, default=Path("zoo-out"), metavar="DIR", help="runs/<id>.jsonl and truth.json are here"
    )
    options.add_argument("--seeds", type=int, default=2, help="seeds of every case")
    options.add_argument(
        "--first", type=int, default=0, metavar="SEED", help="the first of them: seeds that nobody has looked at"
    )
    options.add_argument("--jobs", type=int, default=2, help="processes")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose id contains it")
    options.add_argument("--keep", type=Path, metavar="DIR", help="also write the recorded part there, packed (tests/zoo)")
    options.add_argument(
        "--score", action="store_true", help="replay what DIR holds, train nothing; exits 1 if anything is wrong"
    )
    given = options.parse_args()
    if given.score:
        if not (given.out / "truth.json").is_file():
            options.error(f"{given.out} holds no zoo; make one first: scripts/zoo --out {given.out}")
        scores = score(given.out, given.jobs)
        print(report(scores))
        return int(any(s.wrong for s in scores))
    make([c for c in plan(given.seeds, given.first) if given.only in c.id], given.out, given.keep, given.jobs)
    return 0


def make(cases: list[Case], out: Path, keep: Path | None, jobs: int) -> None:
    """Train every case and write what it logged."""
    began = time.monotonic()
    (out / "runs").mkdir(parents=True, exist_ok=True)
    for old in (out / "runs").glob("*.jsonl"):
        old.unlink()
    with ProcessPoolExecutor(jobs) as pool:
        made = dict(zip((c.id for c in cases), pool.map(one, cases), strict=True))
    written, kept = {}, {}
    for case in cases:
        lines, written[case.id] = made[case.id]
        (out / "runs" / f"{case.id}.jsonl").write_text(lines, encoding="utf-8")
        if keep and case.kept:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{case.id}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
            kept[case.id] = written[case.id]
    (out / "truth.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    if keep:
        (keep / "truth.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    seen = sum(e["visible"] for events in written.values() for e in events)
    faulty = sum(c.fault is not None for c in cases)
    took = time.monotonic() - began
    print(
        f"{len(cases)} runs in {took:.0f} s: {faulty} with a fault ({seen} to be seen), {len(cases) - faulty} sound",
        file=sys.stderr,
    )


def one(case: Case) -> tuple[str, list[dict[str, Any]]]:
    """(the log, the truth) of a case. torch is imported here: scoring does without."""
    from scripts.zoo_runs.training import run

    rows, events = run(case)
    rounded = [{k: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    kind = case.id.split("-")[0]
    return "".join(json.dumps(row) + "\n" for row in rounded), truths(kind, rounded, events)


if __name__ == "__main__":
    sys.exit(main())
