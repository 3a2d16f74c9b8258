"""The frontier of the loss spikes: recall against false alarms as the noise guard is made laxer and stricter.

    python scripts/bench/frontier.py CORPUS [--factors 0.5,0.7,1,1.4,2] [--by-training] [--jobs 2]

CORPUS holds runs/<id>.jsonl and labels*.json: {id: [{"kind", "i_start", "i_end", "confidence"}]}, by row (0-based); a run
may also have its list under "events". The guard's noises and step noises are multiplied by each factor. Caught: a clear
`loss_spike` with a warning of `loss_spike`, `divergence` or `nan` from 1 row before its start to 3 after its end. False: a
warning of `loss_spike` or `divergence` over 5 rows from every event but plateaus and overfitting, which are slow (after a
clear divergence nothing is false); those within 20 rows of the last one count once.

With --by-training, each training by itself, and all the others without it: what a figure owes to one of them shows. Which
runs are of one training says the column `group` of CORPUS/index.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))
from smart_monitor.config import Settings
from smart_monitor.model import Finding
from smart_monitor.replay import replay
from smart_monitor.stats.baseline import GUARD
from smart_monitor.stats.shapes import LOSS_APART, SHAPES

Event = dict[str, Any]
LOSS = ("loss_spike", "divergence")
SLOW = ("plateau", "overfitting")
BEFORE, AFTER, NEAR, MERGED = 1, 3, 5, 20


class Sum(NamedTuple):
    """What became of one run, or of many."""

    records: int = 0
    spikes: int = 0
    caught: int = 0
    false: int = 0


def one(job: tuple[Path, list[Event], float]) -> Sum:
    """A run judged with a guard that many times as strict."""
    path, events, factor = job
    SHAPES["loss"] = {"times": GUARD * factor, "apart": LOSS_APART * factor}
    alarms, records = list[tuple[int, str]](), 0
    for _, outputs in replay(path, Settings()):
        records += 1
        alarms += [(o.record, o.kind) for o in outputs if isinstance(o, Finding) and o.severity != "info"]
    clear = [e for e in events if e["kind"] == "loss_spike" and e["confidence"] == "clear"]
    caught = sum(any(_names(e, row) for row, kind in alarms if kind in (*LOSS, "nan")) for e in clear)
    return Sum(records, len(clear), caught, _false([row for row, kind in alarms if kind in LOSS], events))


def _names(event: Event, row: int) -> bool:
    return bool(event["i_start"] - BEFORE <= row <= event["i_end"] + AFTER)


def _false(rows: Iterable[int], events: list[Event]) -> int:
    count, last = 0, -MERGED - 1
    for row in rows:
        fresh, last = row - last > MERGED, row
        count += fresh and not any(_near(e, row) for e in events if e["kind"] not in SLOW)
    return count


def _near(event: Event, row: int) -> bool:
    endless = event["kind"] == "divergence" and event["confidence"] == "clear"
    return bool(event["i_start"] - NEAR <= row and (endless or row <= event["i_end"] + NEAR))


def read(corpus: Path) -> dict[str, list[Event]]:
    """Run -> its events."""
    labels: dict[str, Any] = {}
    for path in sorted(corpus.glob("labels*.json")):
        labels |= json.loads(path.read_text(encoding="utf-8"))
    return {name: found["events"] if isinstance(found, dict) else found for name, found in labels.items()}


def trainings(corpus: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Training -> its runs; a run that the index does not name is one by itself."""
    with (corpus / "index.csv").open(encoding="utf-8", newline="") as file:
        known = {row["id"]: row["group"] for row in csv.DictReader(file)}
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(known.get(name, name), []).append(name)
    return found


def by_training(corpus: Path, sums: dict[str, Sum]) -> Iterable[str]:
    """The lines of the table: those trainings that hold a clear spike or raised a false alarm, the largest first."""
    total = _added(sums.values())
    yield f"{'training':<44} {'runs':>5} {'rows':>8} {'caught':>10} {'false':>6}   without it: caught, false per 1000"
    groups = {name: (len(runs), _added(sums[run] for run in runs)) for name, runs in trainings(corpus, sums).items()}
    for name, (runs, one) in sorted(groups.items(), key=lambda item: -item[1][1].records):
        if one.spikes or one.false:
            rest = Sum(*(a - b for a, b in zip(total, one, strict=True)))
            caught, others = f"{one.caught} of {one.spikes}", f"{rest.caught} of {rest.spikes}"
            rate = 1000 * rest.false / max(rest.records, 1)
            yield f"{name[:44]:<44} {runs:5d} {one.records:8d} {caught:>10} {one.false:6d}   {others}, {rate:.3f}"


def _added(sums: Iterable[Sum]) -> Sum:
    return Sum(*map(sum, zip(Sum(), *sums, strict=True)))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus", type=Path)
    options.add_argument("--factors", default="0.5,0.7,1,1.4,2", help="how many times as strict, separated by commas")
    options.add_argument("--by-training", action="store_true", help="each training by itself, with the guard as it is")
    options.add_argument("--jobs", type=int, default=2, help="processes")
    given = options.parse_args()
    labels = read(given.corpus)
    if not labels:
        options.error(f"{given.corpus} holds no labels*.json")
    if given.by_training:
        with ProcessPoolExecutor(given.jobs) as pool:
            jobs = [(given.corpus / "runs" / f"{name}.jsonl", events, 1.0) for name, events in labels.items()]
            sums = dict(zip(labels, pool.map(one, jobs, chunksize=4), strict=True))
        print(*by_training(given.corpus, sums), sep="\n")
        return 0
    print(f"{'factor':>8} {'noises':>8} {'step noises':>12} {'caught':>10} {'false':>6} {'per 1000':>9}")
    with ProcessPoolExecutor(given.jobs) as pool:
        for factor in map(float, given.factors.split(",")):
            jobs = [(given.corpus / "runs" / f"{name}.jsonl", events, factor) for name, events in sorted(labels.items())]
            total = _added(pool.map(one, jobs, chunksize=4))
            caught = f"{total.caught} of {total.spikes}"
            rate = f"{1000 * total.false / total.records:.3f}"
            print(
                f"{factor:8g} {GUARD * factor:8.1f} {LOSS_APART * factor:12.2f} {caught:>10} {total.false:6d} {rate:>9}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
