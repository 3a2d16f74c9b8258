"""Whatever a trainer does and whenever we are killed: what is held as complete is what it had when it was complete."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.checkpoints.trees import hf_checkpoint, safetensors_bytes, torch_bytes
from tests.snapshots.holding import Beside, contents

RING = 2


class Trainer(RuleBasedStateMachine):
    """A trainer that saves, finishes late, overwrites and rotates; scans and kills come in between."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="holds-"))
        self.model = self.base / "current_model"
        self.model.mkdir()
        self.beside = Beside(self.base, ring=RING)
        self.step = 0
        self.truth: dict[str, set[tuple[tuple[str, bytes], ...]]] = {}
        """Every content that each checkpoint had while all its files stood there."""
        self.later = 0.0

    def teardown(self) -> None:
        self.beside.holds.close()
        shutil.rmtree(self.base, ignore_errors=True)

    def remember(self, path: Path) -> None:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        content = tuple(sorted((p.relative_to(path).as_posix() if path.is_dir() else ".", p.read_bytes()) for p in files))
        self.truth.setdefault(str(path), set()).add(content)

    def saved(self) -> list[Path]:
        return sorted(self.model.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))

    @initialize()
    def first(self) -> None:
        self.save(files=1)

    @rule(files=st.integers(1, 3))
    def save(self, files: int) -> None:
        self.step += 1
        self.remember(hf_checkpoint(self.model, self.step, files=files, aged=0))

    @rule()
    def begin(self) -> None:
        """A save that stops half-way."""
        self.step += 1
        hf_checkpoint(self.model, self.step, marker=False, aged=0)

    @precondition(lambda self: self.saved())
    @rule()
    def late_file(self) -> None:
        path = self.saved()[-1]
        (path / "rng_state_1.pth").write_bytes(torch_bytes(64))
        if (path / "trainer_state.json").exists():
            self.remember(path)

    @precondition(lambda self: self.saved())
    @rule(fill=st.integers(0, 255))
    def overwrite_in_place(self, fill: int) -> None:
        """The same inode and the same size, as torch.save leaves them."""
        path = self.saved()[-1]
        weights = path / "model.safetensors"
        if weights.exists():
            time.sleep(0.005)  # a write within a tick of the last leaves the same mtime
            weights.write_bytes(safetensors_bytes(1024, bytes([fill])))
            if (path / "trainer_state.json").exists():
                self.remember(path)

    @rule(fill=st.integers(0, 255))
    def overwrite_single(self, fill: int) -> None:
        time.sleep(0.005)
        (self.model / "last.pt").write_bytes(torch_bytes(64 + fill))
        self.remember(self.model / "last.pt")

    @precondition(lambda self: self.saved())
    @rule()
    def rotate(self) -> None:
        shutil.rmtree(self.saved()[0])

    @precondition(lambda self: self.saved())
    @rule(later=st.sampled_from([0.0, 2.0]))
    def rotate_under_our_eyes(self, later: float) -> None:
        """A deletion seen half-way: files vanish one by one, the marker among the last."""
        self.look(0.0)
        path = self.saved()[0]
        for file in sorted(path.iterdir()):
            file.unlink()
            self.look(later if path in map(Path, self.beside.known()) else 0.0)
        path.rmdir()

    @rule()
    def glance(self) -> None:
        self.look(0.0)

    @rule()
    def look_when_still(self) -> None:
        self.look(2.0)

    def look(self, later: float) -> None:
        before = {str(p): p.lstat().st_mtime_ns for p in [self.model, *self.model.rglob("*")]}
        self.beside.look(later=later)
        self.trim()
        assert before == {str(p): p.lstat().st_mtime_ns for p in [self.model, *self.model.rglob("*")]}

    @rule()
    def copy(self) -> None:
        if self.beside.holds.eager.busy:
            self.beside.holds.pump(time.monotonic() + 1e6, 0.0, None)

    @rule()
    def killed(self) -> None:
        self.beside.holds.eager.abandon()
        self.beside = self.beside.again()
        self.trim()

    def trim(self) -> None:
        for hold in self.beside.holds.complete[:-RING]:
            self.beside.holds.give_back(hold)

    @invariant()
    def what_is_held_is_what_it_was(self) -> None:
        self.beside.holds.check()
        held = self.beside.holds.complete
        assert len(held) <= RING
        for hold in held:
            found = self.beside.holds.noun(hold)
            content = tuple(sorted(contents(found).items()))
            assert content in self.truth[hold.checkpoint.path], f"{hold.checkpoint.name} was never like this"


Trainer.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHoldsOfAnyTrainer = Trainer.TestCase
