"""Pruning killed between any two steps, several at once, and beside daemons: a snapshot is whole or not there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.pins import pin
from smart_monitor.snapshots.prune import prune
from smart_monitor.snapshots.trash import dropped
from smart_monitor.snapshots.verify import verify
from tests.command_line import ROOT, environment
from tests.daemon.watching import Monitor, Trainer
from tests.faults.store_drivers import kill
from tests.snapshots.made import DAY, NOW, made
from tests.waiting import until

LEAN = Settings(keep_last=1)
PRUNER = """
import os, signal, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from smart_monitor.config import Settings
from smart_monitor.snapshots.prune import prune

left = int(sys.argv[3])

def deadly(act):
    def step(*arguments, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        done = act(*arguments, **more)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return step

for name in ("rename", "unlink", "rmdir", "fsync"):
    setattr(os, name, deadly(getattr(os, name)))
prune(Path(sys.argv[2]), Settings(keep_last=1), float(sys.argv[4]))
"""


def pruner(out: Path, steps: int, now: float = NOW) -> subprocess.Popen[bytes]:
    """A process that prunes and kills itself after so many steps that change the disk."""
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", PRUNER, str(ROOT), str(out), str(steps), str(now)])


def visible(out: Path) -> set[str]:
    return {n for n in os.listdir(out / "snapshots") if not n.startswith(".")}


def filled(out: Path, *, links: bool = False) -> list[Path]:
    """Three of one reason, of which the rules keep the newest; with `links`, all share one file."""
    paths = [made(out, at=NOW - days * DAY, files={"model/checkpoint-9/w": b"w" * 99}, step=9) for days in (60, 50, 40)]
    for path in paths[:2] if links else ():
        (path / "model/checkpoint-9/w").unlink()
        os.link(paths[2] / "model/checkpoint-9/w", path / "model/checkpoint-9/w")
    return paths


@pytest.mark.parametrize("links", [False, True], ids=["copies", "shared files"])
def test_killed_after_any_step_what_is_visible_is_whole_and_the_next_one_finishes(tmp_path: Path, links: bool) -> None:
    steps, seen = 0, set()
    while True:
        out = tmp_path / str(steps)
        *gone, newest = filled(out, links=links)
        killed = pruner(out, steps).wait() != 0
        seen.add(len(visible(out)))
        assert {newest.name} <= visible(out) <= {newest.name, *(p.name for p in gone)}
        assert all(verify(out / "snapshots" / n) == [] for n in visible(out)), steps
        assert visible(out) == {s.name for s in list_snapshots(out)}
        prune(out, LEAN, NOW)
        assert [newest.name] == os.listdir(out / "snapshots"), steps
        assert [] == verify(newest)
        if not killed:
            break
        steps += 1
    assert steps > 12
    assert {1, 2, 3} == seen
    assert {p.name for p in gone} == {d["name"] for d in dropped(out, "anomaly_")}


def test_many_at_once_drop_each_snapshot_once_and_nothing_else(tmp_path: Path) -> None:
    now = time.time()
    paths = [made(tmp_path, at=now - (31 + n) * DAY) for n in range(20)]
    pin(tmp_path, [paths[7].name])
    chance = random.Random(7)
    pruners = [pruner(tmp_path, chance.randrange(5, 400), now) for _ in range(5)]
    for process in pruners:
        process.wait()
    pruners = [pruner(tmp_path, 10**6, now) for _ in range(3)]
    assert [0, 0, 0] == [process.wait() for process in pruners]
    assert {paths[0].name, paths[7].name} == set(os.listdir(tmp_path / "snapshots"))
    assert all(verify(tmp_path / "snapshots" / n) == [] for n in visible(tmp_path))
    told = [d["name"] for d in dropped(tmp_path, "anomaly_")]
    # One killed between its rename and the word about it has not told.
    assert len(set(told)) == len(told)
    assert 18 - len(told) <= 5


def test_two_daemons_and_a_prune_by_hand_at_once_beside_a_trainer_that_fails(tmp_path: Path) -> None:
    trainer, elsewhere = Trainer(tmp_path), tmp_path / "elsewhere"
    now = time.time()
    for n in range(12):
        made(tmp_path, at=now - (31 + n) * DAY)
    often = {"SMART_MONITOR_PRUNE_HOURS": "0.0003", "SMART_MONITOR_KEEP_LAST": "1"}
    by_hand = [sys.executable, "-m", "smart_monitor", "snapshots", "prune", "--keep-last", "1", "--base-dir", str(tmp_path)]
    with Monitor(tmp_path, settings=often) as monitor, Monitor(tmp_path, out=elsewhere, settings=often) as other:
        trainer.checkpoint(1)
        for step in range(1, 6):
            trainer.write(0.7, step=step)
            monitor.sees(step)
            processes = [subprocess.Popen(by_hand, env=environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
            if step == 2:
                kill(processes[0].pid)
            codes = [p.wait() for p in processes]
            assert codes[1] == 0
        trainer.write(float("nan"), step=6)
        until(lambda: any("_nan" in n for n in monitor.snapshots()), "the snapshot of the one")
        until(lambda: any("_nan" in n for n in other.snapshots()), "the snapshot of the other")
        until(lambda: not [n for n in os.listdir(tmp_path / "snapshots") if n.startswith(".")], "the end of trash and partials")
        assert (0, 0) == (monitor.stop(), other.stop())
    assert all(verify(tmp_path / "snapshots" / n) == [] for n in visible(tmp_path))
    newest = [s for s in list_snapshots(tmp_path) if s.time > now - DAY]
    assert 1 == len(newest)
    assert newest[0].weights
