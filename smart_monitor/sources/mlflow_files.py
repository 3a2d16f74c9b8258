"""MLflow's file store: `mlruns/EXPERIMENT/RUN/metrics/NAME`, a file for each metric, a line `time value step` for each value.

MLflow now keeps a database by default and writes these only if told to; older runs and servers have them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from smart_monitor.names import clean
from smart_monitor.sources import Format
from smart_monitor.sources.appended import Place
from smart_monitor.sources.files import shown
from smart_monitor.sources.joined import MAX_FILES, Item, JoinedFiles

MAX_DEPTH = 4
"""Directories into which the slashes of a metric's name lead."""
_CHUNK = 64 << 10


class MlflowFiles(JoinedFiles):
    """The metrics of the run whose directory is `base`. `read` never raises."""

    apart = False
    missing = "no metric of MLflow's"

    def __init__(self, base: Path, run: str, name: str = "") -> None:
        super().__init__(base, run, name or "mlflow")

    @property
    def paths(self) -> Sequence[str]:
        return (f"{self.base}/metrics/", *self._newest)

    def files(self) -> list[tuple[str, str]]:
        root = self.base / "metrics"
        found: list[tuple[str, str]] = []
        todo = [(str(root), "", 0)]
        while todo and len(found) < MAX_FILES:
            directory, before, depth = todo.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_file():
                        found.append((before + entry.name, entry.path))
                    elif depth < MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                        todo.append((entry.path, f"{before}{entry.name}/", depth + 1))
        return sorted(found)

    def items(self, fd: int, name: str, place: Place, final: bool) -> Iterator[Item]:
        at, metric = place.offset, clean(name)
        while True:
            chunk = os.pread(fd, _CHUNK, at)
            lines = chunk.split(b"\n")
            if not final or len(chunk) == _CHUNK or not lines[-1]:
                lines.pop()
            if not lines:
                if len(chunk) == _CHUNK:  # no line of ours
                    at += _CHUNK
                    yield Item(float("-inf"), 0, (), at, {})
                    continue
                return
            for line in lines:
                at += len(line) + 1
                item = _item(line, metric, at)
                if item is None:
                    place.say(f'{shown(name)}: the line before byte {at} is not "time value step", left out.')
                yield item or Item(float("-inf"), 0, (), at, {})


def _item(line: bytes, name: str, end: int) -> Item | None:
    words = line[:400].split()
    if len(words) not in (2, 3, 5, 6):  # with a data set, its name and digest follow
        return None
    try:
        time, value, step = float(words[0]), float(words[1]), int(words[2]) if len(words) > 2 else 0
    except ValueError:
        return None
    if time != time or not 0 <= step < 2**53:
        return None
    return Item(time / 1000, step, ((name, value),), end, {})


def _run(path: Path) -> Path | None:
    """The run that a meta.yaml is of; None if it is of an experiment."""
    return path.parent if (path.parent / "metrics").is_dir() else None


FORMAT = Format(
    name="mlflow", title="the files of MLflow", patterns=("meta.yaml",), order=50,
    open=lambda place, run, name, _: MlflowFiles(place, run, name), place=_run, index="the joined step, in order of time",
)  # fmt: skip
