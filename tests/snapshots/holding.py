"""A trainer's directory and the holds beside it, moved on by hand, in tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.model import Checkpoint
from smart_monitor.snapshots.hold import Hold
from smart_monitor.snapshots.holds import Holds
from tests.waiting import PATIENCE


class Beside:
    """The shelf of a run and its holds, as the daemon moves them, without the daemon. `age`: how late the scans come."""

    def __init__(self, base: Path, out: Path | None = None, ring: int = 3) -> None:
        self.shelf = Shelf(base)
        self.folder = (out or base) / ".smart_monitor" / "holds"
        self.holds = Holds(str(self.folder), ring)

    def look(self, later: float = 0.0) -> list[Hold]:
        """One scan, as if made so many seconds from now; the holds newly complete."""
        self.shelf.scan(time.time() + later)
        whole = [(c, True) for c in self.shelf.complete()] + self.shelf.settling()
        return self.holds.meet(whole, self.shelf.unfinished())

    def copied(self, limit: float = PATIENCE, *, paced: bool = True) -> list[Hold]:
        """Let what has to be copied be copied; at once if it is not `paced`."""
        deadline, found = time.monotonic() + limit, list[Hold]()
        while self.holds.eager.busy:
            if not paced:
                self.holds.eager._not_before.clear()
            assert time.monotonic() < deadline, "the copy is not done"
            found += self.holds.pump(time.monotonic(), 0.0, None)
            time.sleep(0.005)
        return found

    def names(self) -> list[str]:
        return [h.checkpoint.name for h in self.holds.complete]

    def known(self) -> set[str]:
        """Where the checkpoints lie that are held, or growing."""
        return {h.checkpoint.path for h in self.holds.complete} | set(self.holds._growing)

    def again(self) -> Beside:
        """As after a kill: other eyes on the same directories."""
        other = Beside(self.shelf.base, self.folder.parent.parent, self.holds.ring)
        other.holds.recover()
        return other

    def emptied(self, limit: float = PATIENCE) -> list[str]:
        """What lies in the directory of holds once the trash is emptied."""
        deadline = time.monotonic() + limit
        while trash := [n for n in os.listdir(self.folder) if n.startswith(".trash-")]:
            assert time.monotonic() < deadline, f"the trash is not emptied: {trash}"
            time.sleep(0.005)
        return sorted(os.listdir(self.folder))


def contents(found: Checkpoint) -> dict[str, bytes]:
    """The bytes of each file of a checkpoint, wherever it lies."""
    return {s.path: Path(found.path if s.path == "." else os.path.join(found.path, s.path)).read_bytes() for s in found.files}


def theirs(root: Path) -> dict[str, tuple[object, ...]]:
    """What must never change in a trainer's directory through a hold: names, inodes, modes, mtimes, contents."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [".", *folders, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = Path(path).read_bytes() if os.path.isfile(path) and not os.path.islink(path) else b""
            found[os.path.relpath(path, root)] = (info.st_ino, info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, content)
    return found
