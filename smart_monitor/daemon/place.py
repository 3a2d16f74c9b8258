"""Where things of one run lie: the base directory, and our output beside or in it."""

from __future__ import annotations

import os
from pathlib import Path

from smart_monitor.checkpoints.shelf import Shelf

HIDDEN = ".smart_monitor"


class Place:
    """Paths of one run. `out` None: decided by where the checkpoints lie."""

    def __init__(self, base: Path, out: Path | None = None) -> None:
        self.base = base
        self.given = out
        self.out = out or find_out(base)

    @property
    def logs(self) -> Path:
        return self.out / "logs"

    @property
    def snapshots(self) -> Path:
        return self.out / "snapshots"

    @property
    def hidden(self) -> Path:
        return self.out / HIDDEN

    @property
    def journal(self) -> Path:
        return self.hidden / "journal"

    @property
    def lock(self) -> Path:
        return self.hidden / "lock"

    @property
    def stop(self) -> Path:
        """The process that is asked to let go of this run alone, by its pid."""
        return self.hidden / "stop"

    @property
    def state(self) -> Path:
        return self.hidden / "state.json"

    @property
    def vitals(self) -> Path:
        return self.hidden / "vitals.json"

    @property
    def checkpoints(self) -> Path:
        """What is known of the time around each checkpoint."""
        return self.hidden / "checkpoints.json"

    def ask_to_stop(self, pid: int) -> None:
        """Ask that process to let go of this run, once it is told to look (SIGUSR1). Raises OSError."""
        self.stop.unlink(missing_ok=True)
        fd = os.open(self.stop, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(str(pid))

    def stop_asked(self) -> bool:
        """Is this process asked to let go of this run? The request is taken away: it holds once."""
        try:
            asked = int(read_small(self.stop, 64)) == os.getpid()
            if asked:
                self.stop.unlink()
        except (OSError, ValueError):
            return False
        return asked

    def settle(self) -> None:
        """Decide `out` anew (the run's directory may have appeared since) and make our directories. Raises OSError."""
        if self.given is None:
            self.base.stat()
        self.out = self.given or find_out(self.base)
        if self.given is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        elif self.out != self.base:
            self.out.mkdir(exist_ok=True)
        # Not its parents: the run's own directory is never made by us, however soon it vanishes.
        self.hidden.mkdir(mode=0o700, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        self.snapshots.mkdir(mode=0o700, exist_ok=True)


def find_out(base: Path) -> Path:
    """The run's directory, or its sibling BASE.monitor where checkpoints lie directly in the run's directory.

    Trainers rotate, upload and delete what lies in theirs. Where we already wrote, we go on writing.
    """
    sibling = base.with_name(base.name + ".monitor") if base.name else base
    if (sibling / HIDDEN).is_dir():
        return sibling
    if (base / HIDDEN).is_dir():
        return base
    return sibling if Shelf(base).in_base() else base


def trainers_own(base: Path, out: Path) -> Path | None:
    """The directory of the trainer's in which `out` would lie: current_model/, or a checkpoint. None if it lies in neither."""
    top, real = (Path(os.path.realpath(path)) for path in (base, out))
    model = Path(os.path.realpath(base / "current_model"))
    if model != top and real.is_relative_to(model):
        return base / "current_model"
    below = [p for p in (real, *real.parents) if p != top and p.is_relative_to(top)]
    return next((p for p in below if p.name.startswith("checkpoint-")), None)


def read_small(path: Path, limit: int = 1 << 26) -> bytes:
    """The content of one of our own files, not following a link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(fd, "rb") as file:
        return file.read(limit)
