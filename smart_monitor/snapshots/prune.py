"""Pruning: carry the plan of `retention` out, now. For the command line, and for the daemon in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from smart_monitor.config import Settings
from smart_monitor.snapshots import trash
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.groups import reason_of
from smart_monitor.snapshots.intents import IntentBox
from smart_monitor.snapshots.listing import Snapshot, directories, list_snapshots
from smart_monitor.snapshots.lock import store_lock
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pins import PinsUnusable, pinned
from smart_monitor.snapshots.remote.records import pending
from smart_monitor.snapshots.retention import Plan, Verdict, plan
from smart_monitor.snapshots.verify import verify
from smart_monitor.snapshots.worker import Life, Stopped, lower, say

LEISURE = 0.005
"""Seconds of rest between two files that the daemon's process unlinks: the trainer may want the disk meanwhile."""


@dataclass(slots=True)
class Outcome:
    """What pruning came to."""

    plan: Plan
    dropped: list[Verdict] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What could not be dropped or removed, a sentence each."""
    damaged: list[str] = field(default_factory=list)
    """Directories with a snapshot's name that are none any more: left for a person to look at."""


def look(out: Path, settings: Settings, now: float) -> Outcome:
    """The plan for what stands now; nothing is changed. Raises PinsUnusable: who can't tell what is pinned drops nothing."""
    return _look(out, settings, now, _sound(list_snapshots(out)))


def prune(
    out: Path,
    settings: Settings,
    now: float,
    *,
    told: Callable[[Verdict], None] = lambda _: None,
    alive: Callable[[], None] = lambda: None,
) -> Outcome:
    """Drop what the plan says, all within one short store lock, then empty the trash.

    `told` hears of each as soon as it is gone. `alive` is called before anything is dropped, for every piece that
    is read again and for every file that is unlinked; it may rest, or raise to put the rest off. Raises
    PinsUnusable, or OSError where the lock can't be had; then nothing was dropped.
    """
    folder = out.absolute() / ".smart_monitor"
    directory = out.absolute() / "snapshots"
    if not directory.is_dir():
        return Outcome(plan((), settings, now))
    make_private(str(folder))
    sound = _sound(list_snapshots(out), alive)  # may read gigabytes, so not under the lock
    alive()
    snapshots = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        outcome = _look(out, settings, now, sound)
        if outcome.plan.drops:
            with store_lock(str(folder)):
                outcome = _look(out, settings, now, sound)  # somebody may have pinned one of them
                for verdict in outcome.plan.drops:
                    _drop(verdict, snapshots, folder, now, outcome)
                os.fsync(snapshots)
        for verdict in outcome.dropped:
            told(verdict)
        outcome.troubles += trash.empty(snapshots, alive)
    finally:
        os.close(snapshots)
    return outcome


def _drop(verdict: Verdict, snapshots: int, folder: Path, now: float, outcome: Outcome) -> None:
    try:
        trash.discard(snapshots, verdict.name)
    except FileNotFoundError:
        return  # deleted by hand meanwhile
    except OSError as error:
        outcome.troubles.append(f"could not drop {shown(verdict.name)}: {error.strerror}")
        return
    trash.record(folder, verdict.name, verdict.rule, verdict.bytes, now)
    outcome.dropped.append(verdict)


def _look(out: Path, settings: Settings, now: float, sound: set[str]) -> Outcome:
    known = list_snapshots(out)
    intents = IntentBox(out / ".smart_monitor" / "intents").ids()
    found = plan(known, settings, now, pinned=pinned(out), promised=intents, unsent=pending(out, now), sound=sound)
    names = {s.name for s in known}
    return Outcome(found, damaged=[d.name for d in directories(out) if d.name not in names])


def _sound(known: list[Snapshot], alive: Callable[[], None] = lambda: None) -> set[str]:
    """The newest snapshot with weights that is whole: by its sizes and time stamps, or, where those changed, read again."""
    for snapshot in reversed([s for s in known if s.weights]):
        if not snapshot.touched or not verify(snapshot.path, lambda _: alive()):
            return {snapshot.name}
    return {s.name for s in known if not s.touched}


def main() -> int:
    """The daemon's process: a job {out, settings, parent, now} on stdin, a line of JSON for each drop and trouble on stdout."""
    job: dict[str, Any] = json.load(sys.stdin.buffer)
    os.umask(0)
    lower()
    try:
        life = Life(job["parent"])
        life.deafen()  # not between a rename and the word about it: when the daemon is gone, the next file is the last

        def rest() -> None:
            life.check()
            time.sleep(LEISURE)

        done = prune(Path(job["out"]), settings_of(job["settings"]), job["now"], told=lambda v: say(asdict(v)), alive=rest)
    except Stopped:
        return 1
    except (PinsUnusable, OSError) as error:
        say({"trouble": f"nothing was pruned: {reason_of(error)}"})
        return 1
    for trouble in [*done.troubles, *filter(None, [done.plan.unmet])]:
        say({"trouble": trouble})
    return 0


def settings_of(job: dict[str, Any]) -> Settings:
    """Settings with those of a job."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in job.items()}
    return replace(Settings(), **given)


if __name__ == "__main__":
    sys.exit(main())
