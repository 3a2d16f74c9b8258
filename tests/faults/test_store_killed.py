"""kill -9 of the daemon, of its worker, of both, at any moment: what is visible is whole, and promises are kept once.

SMART_MONITOR_KILLS sets the number of trials of the slow one (60 by default), SMART_MONITOR_KILL_SEED the moments.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import functools
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.lock import Held, store_lock
from smart_monitor.snapshots.names import boot_id, host, partial_name
from smart_monitor.snapshots.partials import remove_tree
from smart_monitor.snapshots.publish import Partial, publish
from smart_monitor.snapshots.store import Store
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint
from tests.faults.store_drivers import Drivers, alive, children, kill
from tests.snapshots.runs import ROOMY, decision
from tests.waiting import PATIENCE, until

TRIALS = int(os.environ.get("SMART_MONITOR_KILLS", "60"))
SEED = int(os.environ.get("SMART_MONITOR_KILL_SEED", str(random.randrange(2**32))))


def partials(base: Path) -> list[str]:
    try:
        return [n for n in os.listdir(base / "snapshots") if n.startswith(".partial-")]
    except FileNotFoundError:
        return []


def visible(base: Path) -> set[str]:
    try:
        return {n for n in os.listdir(base / "snapshots") if not n.startswith(".")}
    except FileNotFoundError:
        return set()


def promises(base: Path) -> set[Path]:
    return set((base / ".smart_monitor" / "intents").glob("*.json"))


def has_promised(base: Path, known: set[Path], driver: int) -> bool:
    return bool(promises(base) - known) or not alive(driver)


def turn_over(models: Path, trial: int) -> None:
    """The trainer saves now and then, keeps two checkpoints, and writes the newest weights beside them."""
    if trial % 4:
        return
    path = hf_checkpoint(models, 500 + trial, files=3, size=400_000)
    shutil.copyfile(path / "model-00001-of-00003.safetensors", models / "adapter_model.safetensors")
    for old in sorted(models.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))[:-2]:
        shutil.rmtree(old)


def inodes(path: Path) -> set[int]:
    """Of every file below it that stands."""
    found = set()
    for folder, _, files in os.walk(path):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                found.add(os.lstat(os.path.join(folder, file)).st_ino)
    return found


@pytest.mark.timeout(120 + 6 * TRIALS)
@pytest.mark.parametrize("trials", [16, pytest.param(TRIALS, marks=pytest.mark.slow)])
def test_nothing_visible_is_ever_incomplete_and_every_promise_is_kept_exactly_once(tmp_path: Path, trials: int) -> None:
    models = tmp_path / "current_model"
    chance = random.Random(SEED)
    seen: set[str] = set()
    with Drivers() as drivers:
        for trial in range(trials):
            turn_over(models, trial)
            before = fingerprint(models)
            known = promises(tmp_path)
            driver = drivers.start(tmp_path, [f"trial-{trial}"], rate=30.0)
            if trial % 2:  # on a busy machine it would often be killed before it did anything
                until(functools.partial(has_promised, tmp_path, known, driver))
            time.sleep(chance.uniform(0.0, 0.3))
            victims = chance.choice(("driver", "worker", "both"))
            workers = children(driver)
            if victims != "worker":
                kill(driver)
            if victims != "driver":
                for worker in workers:
                    kill(worker)
                time.sleep(chance.uniform(0.0, 0.1))
            kill(driver)
            where = f"seed {SEED}, trial {trial}, {victims} killed"
            for name in visible(tmp_path) - seen:
                assert verify(tmp_path / "snapshots" / name) == [], where
                seen.add(name)
            assert fingerprint(models) == before, where
            assert not inodes(models) & inodes(tmp_path / "snapshots"), where
        last = drivers.start(tmp_path, [])
        until(lambda: not alive(last), "the last of them to keep what is promised", PATIENCE + trials)
    kept = collections.Counter(
        json.loads((tmp_path / "snapshots" / n / "metadata.json").read_text())["id"] for n in visible(tmp_path)
    )
    promised = {decision(f"trial-{trial}").id for trial in range(trials)}
    told = {line.split()[1] for line in (tmp_path / "told").read_text().splitlines() if line.startswith("published")}
    # A driver killed before its promise was on the disk has promised nothing.
    assert set(kept) <= promised
    assert set(kept.values()) == {1}, f"seed {SEED}: {kept.most_common(3)}"
    assert told == set(kept), f"seed {SEED}"
    assert len(kept) >= trials // 2
    assert all(verify(s.path) == [] for s in list_snapshots(tmp_path))
    assert len(list_snapshots(tmp_path)) == len(kept)
    assert partials(tmp_path) == []
    assert list((tmp_path / ".smart_monitor" / "intents").glob("*.json")) == []
    assert before == fingerprint(models)
    ways = collections.Counter(
        f["how"]
        for n in visible(tmp_path)
        for f in json.loads((tmp_path / "snapshots" / n / "metadata.json").read_text())["files"]
    )
    assert ways["shared"] > 0
    assert ways["copy"] > 0


@pytest.mark.parametrize("rate", [0.5, 0.01], ids=["between chunks", "asleep"])
def test_the_worker_dies_with_the_daemon_and_takes_its_partial_along(tmp_path: Path, rate: float) -> None:
    hf_checkpoint(tmp_path / "current_model", 500, size=3_000_000)
    with Drivers() as drivers:
        driver = drivers.start(tmp_path, ["one"], rate=rate)
        until(lambda: bool(partials(tmp_path)))
        [worker] = children(driver)
        time.sleep(0.1)
        kill(driver)
        until(lambda: not alive(worker))
        assert partials(tmp_path) == []
        assert visible(tmp_path) == set()


def test_a_second_daemon_leaves_the_partial_of_a_living_worker_and_still_keeps_the_promise_once(tmp_path: Path) -> None:
    hf_checkpoint(tmp_path / "current_model", 500, size=3_000_000)
    with Drivers() as drivers:
        driver = drivers.start(tmp_path, ["one"], rate=2.0)
        until(lambda: bool(partials(tmp_path)))
        [worker] = children(driver)
        os.kill(worker, signal.SIGSTOP)  # an orphan that dies slowly
        kill(driver)
        [partial] = partials(tmp_path)
        assert Store(tmp_path, ROOMY).sweep() == []
        second = drivers.start(tmp_path, [])
        until(lambda: not alive(second))
        assert partials(tmp_path) == [partial]
        os.kill(worker, signal.SIGCONT)
        until(lambda: not alive(worker))
    assert partials(tmp_path) == []
    assert len(visible(tmp_path)) == 1


def test_of_two_workers_that_keep_the_same_promise_the_second_finds_the_first(tmp_path: Path) -> None:
    snapshots = os.open(tmp_path, os.O_RDONLY)
    names: list[str] = []
    for temporary in ("one", "two", "three"):
        (tmp_path / temporary).mkdir()
        fd = os.open(tmp_path / temporary, os.O_RDONLY)
        document = {"id": "other" if temporary == "three" else "same"}
        names.append(
            publish(Partial(fd), temporary, "anomaly_x", document, snapshots=snapshots, folder=str(tmp_path), point=lambda: None)
        )
        os.close(fd)
    os.close(snapshots)
    assert names == ["anomaly_x", "anomaly_x", "anomaly_x_2"]
    assert sorted(os.listdir(tmp_path)) == ["anomaly_x", "anomaly_x_2", "store.lock", "two"]


def test_an_orphan_called_off_at_the_last_moment_publishes_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    def too_late() -> None:
        raise TimeoutError

    snapshots = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2):
        (tmp_path / "partial").mkdir(exist_ok=True)
        fd = os.open(tmp_path / "partial", os.O_RDONLY)
        with pytest.raises(TimeoutError):
            publish(Partial(fd), "partial", "anomaly_x", {"id": "x"}, snapshots=snapshots, folder=str(tmp_path), point=too_late)
        remove_tree("partial", snapshots)
        os.close(fd)
    os.close(snapshots)
    assert os.listdir(tmp_path) == ["store.lock"]


def test_the_lock_tells_who_holds_it_and_survives_its_file_being_deleted(tmp_path: Path) -> None:
    with store_lock(str(tmp_path)):
        owner = {"schema": 1, "host": host(), "pid": os.getpid(), "boot": boot_id()}
        assert json.loads((tmp_path / "store.lock").read_text()) == owner
        with pytest.raises(Held, match=f'"pid": {os.getpid()}'), store_lock(str(tmp_path), 0.05):
            pass
        (tmp_path / "store.lock").unlink()
    with store_lock(str(tmp_path), 0.0):
        pass


def test_a_partial_whose_worker_lives_where_pids_mean_something_else_is_left(tmp_path: Path) -> None:
    """In a container of its own, beside ours, on the same disk: its lock is all that we see of it."""
    theirs = tmp_path / "snapshots" / partial_name("anomaly_20260101_000000_nan").replace(f"-{os.getpid()}-", "-4194303-")
    theirs.mkdir(parents=True)
    fd = os.open(theirs, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert ([], True) == (Store(tmp_path, ROOMY).sweep(), theirs.exists())
    os.close(fd)
    assert (1, False) == (len(Store(tmp_path, ROOMY).sweep()), theirs.exists())


def test_only_the_partials_of_dead_workers_of_this_machine_are_swept(tmp_path: Path) -> None:
    snapshots = tmp_path / "snapshots"
    mine = partial_name("anomaly_20260101_000000_nan")
    dead = mine.replace(f"-{os.getpid()}-", "-4194303-")
    foreign = dead.replace(".partial-", ".partial-elsewhere.")
    for name in (mine, dead, foreign, ".partial-of-someone", "anomaly_20260101_000000_nan"):
        (snapshots / name / "model").mkdir(parents=True)
        (snapshots / name / "model" / "file").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    (snapshots / dead / "link").symlink_to(outside)
    (snapshots / f"{dead}_2").symlink_to(outside)
    said = Store(tmp_path, ROOMY).sweep()
    assert len([s for s in said if s.startswith("removed")]) == 1
    assert len([s for s in said if "another machine" in s]) == 1
    assert sorted(os.listdir(snapshots)) == sorted(
        [mine, foreign, ".partial-of-someone", "anomaly_20260101_000000_nan", f"{dead}_2"]
    )
    assert os.listdir(outside) == ["precious"]
