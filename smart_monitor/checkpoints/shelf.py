"""The shelf: which checkpoints of a run are complete now, across scans and whatever happens meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from smart_monitor.checkpoints import Layout, layouts
from smart_monitor.checkpoints.candidate import Budget, Candidate, Folder, is_temporary, look, shown
from smart_monitor.checkpoints.content import step_told
from smart_monitor.checkpoints.model_files import has_weights, model_files
from smart_monitor.checkpoints.mounts import is_network
from smart_monitor.checkpoints.places import found_in, places
from smart_monitor.checkpoints.remains import find_kin
from smart_monitor.checkpoints.watch import Watch
from smart_monitor.model import Checkpoint, FileStamp, newest

NETWORK_SKEW = 60.0
"""Seconds by which the clock of a file server may be off before a time stamp alone proves stillness."""

STEADY = 0.1
"""Seconds for which a checkpoint must have been seen unchanged, and older than its successor, to be believed finished by it."""
MAX_CANDIDATES = 100
"""Candidates looked at in one scan."""
GRAIN = 2.0
_MARKS = ("-unfinished", ".pt", ".pth", ".bin", "trainer_state.json")
"""Endings of names beside a candidate that may say something about it; others come and go with every step."""


@dataclass(slots=True)
class _Memory:
    """What earlier scans know of one candidate: its stamps, since when, and the noun if it was complete under them."""

    stamps: int
    since: float
    looked: int = 0
    content: tuple[int, tuple[str, ...]] | None = None
    """What the files say is missing, and the entries beside them under which they said it."""
    checkpoint: Checkpoint | None = None
    whole: Checkpoint | None = None
    """The noun if its content is whole under these stamps, still or not."""
    had: frozenset[FileStamp] = frozenset()
    """The files with which it was last whole and still."""
    gone: tuple[str, ...] = ()
    """Those of them that are there no more, if all that stands is as it was then."""


class Shelf:
    """Looks into BASE/current_model/, BASE itself and the folders below that trainers make.

    Quiet periods are seconds; times are unix seconds.
    """

    def __init__(self, base: Path, local_quiet: float = 1.0, network_quiet: float = 5.0) -> None:
        self.base = base
        self._quiet = {False: local_quiet, True: network_quiet}
        self._layouts: tuple[Layout, ...] = layouts()
        self._memory: dict[str, _Memory] = {}
        self._complete: list[Checkpoint] = []
        self._incomplete: list[str] = []
        self._settling: list[tuple[Checkpoint, Candidate, bool]] = []
        self._unfinished: list[tuple[Candidate, str]] = []
        self._looked_at: list[Candidate] = []
        self._network: dict[str, bool] = {}
        self._budget = Budget()
        self.watch = Watch(base)
        """Tells by a bounded number of stats, from any thread, whether anything changed that asks for another scan."""
        self._scanned = 0.0

    def scan(self, now: float) -> None:
        """Look at every candidate. Never raises OSError: what can't be looked at is told by `incomplete`."""
        self._scanned, self._complete, self._incomplete = now, [], []
        self._settling, self._unfinished, self._looked_at = [], [], []
        budget, left, known = Budget(before=self._budget), MAX_CANDIDATES, self._memory
        self._memory, self._budget = {}, budget
        began = time.time()
        folders, self._incomplete = places(self.base, self._layouts)
        for folder, found in folders:
            mine = [(layout, c) for layout, c in found.values() if not self._is_alias(folder.path, c)]
            # The newest first: if a bound ends the look, it ends among the old.
            mine.sort(key=lambda f: -1 if f[1].step is None else f[1].step, reverse=True)
            if len(mine) > left:
                self._incomplete.append(f"{folder.path}: the {len(mine) - left} oldest checkpoints are not looked at")
            mine, left = mine[:left], left - min(left, len(mine))
            neighbours = self._look_at(mine, folder, budget, now)
            for layout, candidate in mine:
                candidate.neighbours = neighbours
                self._judge(folder.path, layout, candidate, known.get(str(candidate.path)))
                self._looked_at.append(candidate)
        self.watch.set([folder for folder, _ in folders], self._looked_at, began)
        budget.close()
        for candidate in self._looked_at:
            candidate.forget()

    def settling(self) -> list[tuple[Checkpoint, bool]]:
        """What the last scan found whole but not yet still, and whether its writer has begun a later one since.

        Whoever begins the next checkpoint is done with this one. That is believed where the content itself
        tells that it is whole: of a single file, or of a directory whose layout has a `marker` written last.
        """
        return [(noun, marked and self._is_followed(candidate)) for noun, candidate, marked in self._settling]

    def _is_followed(self, candidate: Candidate) -> bool:
        return any(
            other.folder == candidate.folder
            and (other.step or 0) > (candidate.step or 0)
            and other.tree.changed > candidate.tree.changed + STEADY
            for other in self._looked_at
        )

    def unfinished(self) -> list[str]:
        """Paths of the candidates of the last scan that have a step and whose content is not whole."""
        return [str(c.path) for c, _ in self._unfinished if c.step is not None and not is_temporary(c.name)]

    def abandoned(self, age: float, beyond: int) -> dict[str, str]:
        """Candidates of a step above `beyond` that are not whole and have not changed for `age` seconds.

        Path -> what `incomplete` says of it.
        """
        old = [(c, said) for c, said in self._unfinished if self._scanned - c.tree.changed >= age]
        return {str(c.path): said for c, said in old if c.step is not None and c.step > beyond}

    def newest(self, since: float | None, now: float) -> Checkpoint | None:
        """The newest complete checkpoint of the last scan (`model.newest`).

        `now` bounds nothing here: what is complete was decided when the scan looked.
        """
        return newest(self._complete, since)

    def complete(self) -> list[Checkpoint]:
        """Every complete checkpoint of the last scan, in order of completion."""
        return sorted(self._complete, key=lambda c: (c.completed, c.name))

    def incomplete(self, now: float) -> list[str]:
        """One sentence for each candidate of the last scan that is not complete, saying what is missing."""
        return list(self._incomplete)

    def model_files(self) -> Checkpoint | None:
        """The top-level model files of current_model/, or of BASE if the model lies there, as they stand now."""
        for root in (self.base / "current_model", self.base):
            found = model_files(Path(os.path.realpath(root)), Budget(), self._scanned)
            # A config.json alone in BASE belongs to the run, not to a model.
            if found and (root != self.base or has_weights(found)):
                return found
        return None

    def in_base(self) -> bool:
        """Do checkpoint directories lie directly in BASE? Their trainer rotates and uploads what it finds there."""
        try:
            found = found_in(Folder.read(Path(os.path.realpath(self.base))), self._layouts)
        except OSError:
            return False
        return any(not candidate.single and candidate.step is not None for _, candidate in found.values())

    @staticmethod
    def _is_alias(root: Path, candidate: Candidate) -> bool:
        """A link to a neighbour (`last.ckpt`, `latest`) is no checkpoint of its own; one that leads elsewhere is."""
        if not candidate.path.is_symlink():
            return False
        candidate.path = Path(os.path.realpath(candidate.path))
        return candidate.path.parent == root

    @staticmethod
    def _look_at(found: list[tuple[Layout, Candidate]], folder: Folder, budget: Budget, now: float) -> frozenset[str]:
        """Look at the files of each candidate; what lies beside them all, as far as it may mark one of them."""
        names = {n for n in folder.files if n.endswith(_MARKS)}
        for _, candidate in found:
            candidate.now = now
            candidate.tree = look(candidate.path, candidate.single, budget, now)
            if not candidate.single:
                names |= {f"{candidate.name}/{n}" for n in candidate.tree.names() if "/" not in n}
        for layout in {id(layout): layout for layout, _ in found}.values():
            find_kin(candidate for other, candidate in found if other is layout)
        return frozenset(names)

    def _judge(self, root: Path, layout: Layout, candidate: Candidate, before: _Memory | None) -> None:
        tree, now = candidate.tree, self._scanned
        stamps = hash((tree.changed, *((f.stamp, f.ctime_ns, f.mode) for f in tree.files)))
        memory = before if before and before.stamps == stamps else _Memory(stamps, now)
        if before is not None and before is not memory and before.had:
            there, memory.had = frozenset(f.stamp for f in tree.files), before.had
            memory.gone = tuple(sorted(f.path for f in before.had - there)) if there < before.had else ()
        candidate.gone = memory.gone
        memory.since = min(memory.since, now)  # a clock set back must not keep it restless
        self._memory[str(candidate.path)] = memory
        entries = hash((tuple(tree.external), tuple(tree.temporary), tuple(tree.problems)))
        kin = frozenset((other.name, *other.tree.names()) for other in candidate.kin)
        looked = hash((entries, candidate.neighbours, candidate.gone, kin))
        missing: list[str] = []
        if memory.whole is None or memory.looked != looked:
            memory.checkpoint = memory.whole = None
            missing = self._missing(layout, candidate, memory, entries)
            if not missing:
                memory.looked, memory.whole = looked, self._noun(layout, candidate)
        restless = missing or self._restless(root, candidate, memory)
        if restless:
            self._incomplete.append(f"{shown(candidate.name)} is not complete: {'; '.join(restless)}")
            if memory.whole is None:
                self._unfinished.append((candidate, self._incomplete[-1]))
            else:
                told = candidate.single or getattr(layout, "marker", "\n") in tree.names()
                # Of one that was never seen otherwise nobody knows whether it is growing or being deleted.
                steady = now - memory.since >= STEADY
                self._settling.append((memory.whole, candidate, told and steady and candidate.step is not None))
        elif memory.whole is not None:
            if memory.checkpoint is None:
                still = f"{memory.whole.complete_by}; nothing changed for {self._quiet_at(root):g} s"
                memory.checkpoint = replace(memory.whole, complete_by=still)
                memory.had = frozenset(memory.whole.files)
            self._complete.append(memory.checkpoint)

    def _missing(self, layout: Layout, candidate: Candidate, memory: _Memory, entries: int) -> list[str]:
        """What the layout misses. The files are asked again only if they may have changed since they last were."""
        candidate.content = memory.content[1] if memory.content and memory.content[0] == entries else None
        missing = layout.missing(candidate)
        # Within the grain of a time stamp a file may change and look the same.
        settled = candidate.content is not None and self._scanned - candidate.tree.changed > GRAIN
        memory.content = (entries, candidate.content or ()) if settled else None
        return missing

    def _restless(self, root: Path, candidate: Candidate, memory: _Memory) -> list[str]:
        quiet, now = self._quiet_at(root), self._scanned
        age = now - candidate.tree.changed
        if age >= quiet + (NETWORK_SKEW if self._network[str(root)] else 0.0) or now - memory.since >= quiet:
            return []
        return [f"it is still being written (last change {age:.1f} s ago)" if age >= 0 else "its last change lies in the future"]

    def _quiet_at(self, root: Path) -> float:
        if str(root) not in self._network:
            self._network[str(root)] = is_network(root)
        return self._quiet[self._network[str(root)]]

    @staticmethod
    def _noun(layout: Layout, candidate: Candidate) -> Checkpoint:
        files = tuple(f.stamp for f in candidate.tree.files)
        return Checkpoint(
            name=candidate.name,
            path=str(candidate.path),
            step=step_told(candidate) if candidate.step is None and not candidate.single else candidate.step,
            layout=layout.name,
            complete_by=layout.proof(candidate),
            completed=max((s.mtime_ns for s in files), default=0) / 1e9,
            files=files,
            external=tuple(candidate.tree.external),
        )
