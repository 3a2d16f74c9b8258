"""Holds where links do not reach, disks fill up, files are another user's. Mounts need root: skipped aloud without."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.config import Settings
from smart_monitor.daemon import holding as daemon_holding
from smart_monitor.daemon.holding import CHECK, Holding
from smart_monitor.daemon.place import Place
from smart_monitor.engine import Engine
from smart_monitor.model import Record
from smart_monitor.snapshots.holds import Holds
from tests.checkpoints.trees import hf_checkpoint, torch_bytes
from tests.faults.test_store_disk import fill, mounted
from tests.snapshots.holding import Beside, contents, theirs
from tests.snapshots.runs import ROOMY
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    yield from mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=8m", "none")


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A file system that clones."""
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("mkfs.xfs is not installed")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 * 2**20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    yield from mounted(tmp_path / "xfs", "-o", "loop", str(image))


def test_across_file_systems_a_checkpoint_is_copied_as_soon_as_it_is_complete(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "run" / "current_model"
    model.mkdir(parents=True)
    beside = Beside(model.parent, out=small)
    path = hf_checkpoint(model, 100, files=3)
    beside.look()
    before = theirs(model)
    beside.look(later=2)
    [hold] = beside.copied()
    assert before == theirs(model)
    shutil.rmtree(path)
    assert "copy" == hold.how
    assert {p.removeprefix("checkpoint-100/"): c[5] for p, c in before.items() if c[5]} == contents(beside.holds.noun(hold))
    said = "Checkpoints can't be linked (it lies on another file system): each is copied as soon as it is complete"
    assert [said] == beside.holds.said
    assert [(hold.folder, hold.files)] == [(h.folder, h.files) for h in beside.again().holds.complete]


def test_a_copy_that_the_disk_has_no_room_for_is_said_once(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "run" / "current_model"
    model.mkdir(parents=True)
    beside = Beside(model.parent, out=small)
    hf_checkpoint(model, 100, size=1_000_000, files=3)
    fill(small, 1_000_000)
    for _ in range(3):
        beside.look(later=2)
        assert [] == beside.copied(paced=False)
    assert 1 == len([s for s in beside.holds.said if s.startswith("Checkpoints can't be held: ")])
    assert beside.holds.unable
    assert [] == beside.emptied()
    (small / "ballast").unlink()
    beside.look(later=2)
    assert ["checkpoint-100"] == [h.checkpoint.name for h in beside.copied(paced=False)]
    assert "" == beside.holds.unable


def test_a_copy_whose_source_is_rotated_meanwhile_is_no_hold(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "run" / "current_model"
    model.mkdir(parents=True)
    beside = Beside(model.parent, out=small)
    path = hf_checkpoint(model, 100, size=100_000, files=4)
    beside.look()
    beside.look(later=2)
    assert [] == beside.holds.pump(time.monotonic(), 100_000.0, None)
    until(lambda: list(beside.folder.glob("hold-*/files/model-*")))
    (path / "model-00004-of-00004.safetensors").write_bytes(b"other")
    assert [] == beside.copied()
    assert ["checkpoint-100 could not be held: model-00004-of-00004.safetensors was overwritten"] == beside.holds.said[1:]
    assert [] == beside.emptied()


def test_a_clone_is_immune_to_a_trainer_that_writes_in_place(xfs: Path) -> None:
    model = xfs / "current_model"
    model.mkdir()
    beside = Beside(xfs)
    (model / "ckpt.pt").write_bytes(b"x" * 10_000)  # an old format without a zip directory: whole once it is still
    hf_checkpoint(model, 100, size=100_000)
    beside.look()
    holds = {h.checkpoint.name: h for h in beside.look(later=2)}
    assert {"clone"} == {h.how for h in holds.values()}
    assert {"checkpoint-100", "ckpt.pt"} == set(holds)
    (model / "ckpt.pt").write_bytes(b"y" * 10_000)
    (model / "checkpoint-100" / "model.safetensors").write_bytes(b"z")
    beside.holds.check()
    assert {".": b"x" * 10_000} == contents(beside.holds.noun(holds["ckpt.pt"]))
    assert b"z" != contents(beside.holds.noun(holds["checkpoint-100"]))["model.safetensors"]
    again = beside.look(later=4)
    assert ["ckpt.pt"] == [h.checkpoint.name for h in again]
    assert {".": b"y" * 10_000} == contents(beside.holds.noun(again[0]))


STRANGER = """
import os, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
import smart_monitor.checkpoints.shelf
from tests.snapshots.holding import Beside
os.setgid(65534)
os.setuid(65534)
beside = Beside(Path(sys.argv[1]), out=Path(sys.argv[2]))
for _ in range(3):
    beside.look(later=2)
print(*beside.shelf.incomplete(0), *beside.holds.said, sep="\\n")
"""


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o600, "checkpoint-100 is not complete: model.safetensors can't be read by this user (mode 0600, owner uid 0)"),
        (
            0o644,
            (
                "Checkpoints can't be linked (its file system or the kernel (fs.protected_hardlinks) refuses hard links to its "
                "files): each is copied as soon as it is complete"
            ),
        ),
    ],
)
def test_files_of_another_user_are_not_linked_and_that_is_said_once_in_words(mode: int, words: str) -> None:
    """safetensors writes its files 0600; the monitor may run under another uid."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is off here")
    place = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    try:
        place.chmod(0o755)
        (place / "out").mkdir()
        os.chown(place / "out", 65534, 65534)
        for file in hf_checkpoint(place / "run" / "current_model", 100).iterdir():
            file.chmod(mode if file.name == "model.safetensors" else 0o644)
        arguments = [str(place / "run"), str(place / "out"), str(ROOT)]
        done = subprocess.run([sys.executable, "-c", STRANGER, *arguments], capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(place)
    assert (0, words) == (done.returncode, done.stdout.strip()), done.stderr


class Watched:
    """A Holding beside a trainer's directory, its engine fed by hand."""

    def __init__(self, base: Path, out: Path, settings: Settings) -> None:
        (out / ".smart_monitor").mkdir(parents=True, exist_ok=True)
        self.model = base / "current_model"
        self.model.mkdir(parents=True)
        self.engine = Engine("run", settings, {})
        self.holding = Holding(Place(base, out), settings, self.engine, active=True)
        self.holding.shelf = Shelf(base, local_quiet=0.2)  # how long it waits for a writer to be done is not what is asked
        self.count = 0

    @property
    def holds(self) -> Holds:
        return self.holding.holds

    def save(self, step: int, size: int = 500_000) -> None:
        """A checkpoint, seen and held; the trainer then rotates its own away."""
        path = hf_checkpoint(self.model, step, size=size)
        until(lambda: self.holding.look() or any(h.checkpoint.step == step for h in self.holds.complete))
        self.holding.trim()
        shutil.rmtree(path)
        self.holding.look()

    def judge(self, count: int) -> None:
        for _ in range(count):
            record = Record("run", "status", self.count, step=self.count, seen=time.time(), values={"loss": 0.7})
            self.engine.feed(record)
            self.holding.heed(record)
            self.count += 1

    def steps(self) -> list[int | None]:
        return [h.checkpoint.step for h in self.holds.complete]


def test_under_disk_pressure_the_ring_goes_first_the_good_one_last_and_what_is_promised_never(small: Path) -> None:
    watched = Watched(small / "run", small / "run", ROOMY)
    watched.save(1)
    watched.judge(60)
    for step in (2, 3, 4, 5):
        watched.save(step)
    # 1 is proven good, 2 waits for its proof, 3 to 5 are the ring
    assert [1, 2, 3, 4, 5] == watched.steps()
    watched.holding.named = frozenset(h.folder for h in watched.holds.complete if h.checkpoint.step == 4)
    free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
    tight = dataclasses.replace(ROOMY, min_free_gb=(free + 10_000_000) / 2**30)
    watched.holding.configure(tight)
    seen = [watched.steps()]
    for turn in range(5):
        watched.holding._given = time.monotonic() - CHECK - 1
        watched.holding.trim()
        seen += [watched.steps()] if watched.steps() != seen[-1] else []
        assert turn < 4
        if watched.steps() == [4]:
            break
    assert [[1, 2, 3, 4, 5], [1, 2, 4], [1, 4], [4]] == seen
    assert watched.holding.vitals()["disk_nearly_full"]
    hf_checkpoint(watched.model, 9)
    watched.holding.look()
    assert not watched.holds.growing  # nothing new is taken while it lasts


def test_while_the_disk_is_nearly_full_it_is_looked_at_again_though_nothing_stirs(small: Path) -> None:
    watched = Watched(small / "run", small / "run", ROOMY)
    for step in (1, 2, 3):
        watched.save(step)
    watched.holding.configure(dataclasses.replace(ROOMY, min_free_gb=1.0))
    watched.holding.trim()
    assert [1] == watched.steps()  # it waits for its proof
    watched.holding._stirred = watched.holding._settling = False
    watched.holding._scanned, watched.holding._given = time.monotonic(), float("-inf")
    watched.holding.turn(watched.holding._checked + CHECK - 0.5, ended=False)
    assert [1] == watched.steps()
    watched.holding.turn(watched.holding._checked + CHECK + 0.5, ended=False)
    assert [] == watched.steps()


def test_one_that_tells_its_step_waits_for_its_proof_whatever_lies_beside_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", tmp_path / "run", ROOMY)
    (watched.model / "last.pt").write_bytes(torch_bytes())
    until(lambda: watched.holding.look() or watched.holds.eager.busy)
    until(lambda: watched.holds.pump(time.monotonic(), 0.0, None))
    for step in (1, 2, 3, 4, 5):
        watched.save(step)
    assert [1, 3, 4, 5] == watched.steps()


def test_nothing_is_given_back_faster_than_its_effect_can_show(small: Path) -> None:
    watched = Watched(small / "run", small / "run", ROOMY)
    watched.save(1)
    watched.judge(60)
    for step in (2, 3, 4):
        watched.save(step)
    watched.holding.configure(dataclasses.replace(ROOMY, min_free_gb=1.0))
    for _ in range(10):
        watched.holding.trim()
    assert [1, 2] == watched.steps()
    until(lambda: not list((small / "run" / ".smart_monitor" / "holds").glob(".trash-*")))


def test_a_newest_checkpoint_that_nobody_goes_on_writing_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_holding, "ABANDONED", 1.0)
    watched = Watched(tmp_path / "run", tmp_path / "run", ROOMY)
    hf_checkpoint(watched.model, 100, marker=False)  # a save that was killed, and the training went on
    watched.save(200)
    hf_checkpoint(watched.model, 300, marker=False)
    watched.holding.look()
    assert [] == watched.holds.said
    until(lambda: watched.holding.look() or watched.holds.said)
    for _ in range(3):
        watched.holding.look()
    [sentence] = watched.holds.said
    assert sentence.startswith("checkpoint-300 is not complete: trainer_state.json, which is written last, is missing; nothing")


def test_the_completed_run_gives_everything_back_but_what_is_promised(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", tmp_path / "run", ROOMY)
    for step in (1, 2, 3):
        watched.save(step, size=1000)
    watched.holding.named = frozenset([watched.holds.complete[0].folder])
    watched.holding.turn(time.monotonic(), ended=True)
    assert [1] == watched.steps()


def test_the_standing_of_checkpoints_survives_a_restart_and_a_damaged_file_claims_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", tmp_path / "run", ROOMY)
    watched.save(1, size=1000)
    watched.judge(60)
    watched.save(2, size=1000)
    watched.holding.save()
    place = Place(tmp_path / "run", tmp_path / "run")
    other = Holding(place, ROOMY, Engine("run", ROOMY, {}), active=True)
    assert [(1, True), (2, False)] == [(o.checkpoint.step, o.proven) for o in other.options()]
    place.checkpoints.write_text('{"schema": 1, "standings": {"count": 1, "known": {"x": 3}}, "extra": {}}')
    damaged = Holding(place, ROOMY, Engine("run", ROOMY, {}), active=True)
    assert [False, False] == [o.proven for o in damaged.options()]
    with contextlib.suppress(OSError):
        damaged.save()
