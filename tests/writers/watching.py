"""Watching a real writer: everything the shelf calls complete is copied there and then, for its framework to load."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.model import Checkpoint

ROOT = Path(__file__).parents[2]


class Stage:
    """The process that has imported the framework (see stage.py)."""

    def __init__(self, kind: str, log: Path, path: str = "") -> None:
        self.log = log
        python = os.pathsep.join(p for p in (path, str(ROOT)) if p)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.writers.stage", kind],
                cwd=log.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=os.environ | {"PYTHONPATH": python, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        assert self.answer() == {"ready": True}

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the writer's process ended:\n{self.log.read_text(errors='replace')[-3000:]}"
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def save(self, folder: Path, saves: int, pause: float) -> int:
        """Starts to save; the id of the process that does. `answer` then waits for its end."""
        folder.mkdir(parents=True, exist_ok=True)
        return int(self.ask({"do": "save", "folder": str(folder), "saves": saves, "pause": pause})["pid"])

    def load(self, paths: list[Path]) -> dict[Path, str]:
        """What the framework says of each; empty if it loads."""
        said = self.ask({"do": "load", "paths": [str(p) for p in paths]})
        return {p: said[str(p)] for p in paths}


@contextmanager
def stage(kind: str, log: Path, path: str = "") -> Iterator[Stage]:
    it = Stage(kind, log, path)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()
        for pipe in (it.process.stdin, it.process.stdout):
            assert pipe
            pipe.close()


def copy_if_it_stands(checkpoint: Checkpoint, to: Path) -> bool:
    """Copies the files it was called complete with; False if the writer or its rotation took one of them meanwhile."""
    source = Path(checkpoint.path)
    for stamp in checkpoint.files:
        path, target = (source, to) if stamp.path == "." else (source / stamp.path, to / stamp.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
            now = path.stat()
        except FileNotFoundError:
            return False
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (stamp.ino, stamp.bytes, stamp.mtime_ns):
            return False
    return True


def watch(writer: Stage, folder: Path, copies: Path, saves: int, pause: float, quiet: float) -> dict[Path, float]:
    """Scans every few milliseconds while the writer saves, and until all is said. Copy -> seconds from last byte to our word."""
    pid = writer.save(folder, saves, pause)
    shelf, said, kept = Shelf(folder, local_quiet=quiet), set(), {}
    end = time.monotonic() + 120
    gone = 0.0
    while time.monotonic() < end and not (gone and time.monotonic() > gone + quiet + 1.0):
        now = time.time()
        shelf.scan(now)
        for found in shelf.complete():
            if (key := (found.path, found.completed)) not in said:
                said.add(key)
                to = copies / f"{len(said)}" / found.name
                if copy_if_it_stands(found, to):
                    kept[to] = now - found.completed
        if not gone and not is_alive(pid):
            gone = time.monotonic()
        time.sleep(0.003)
    assert writer.answer() == {"exit": 0}, writer.log.read_text(errors="replace")[-3000:]
    return kept


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_in_mid_save(writer: Stage, folder: Path, delay: float) -> None:
    """Starts to save without a pause and kills all of it, `delay` seconds after the first file is there."""
    pid = writer.save(folder, 1000, 0.0)
    end = time.monotonic() + 60
    while not any(files for _, _, files in os.walk(folder)) and is_alive(pid):
        assert time.monotonic() < end, writer.log.read_text(errors="replace")[-3000:]
    time.sleep(delay)
    os.killpg(pid, signal.SIGKILL)
    assert writer.answer() == {"exit": -signal.SIGKILL}, writer.log.read_text(errors="replace")[-3000:]
