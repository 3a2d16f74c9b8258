"""Replay: the live engine over a file or a run directory, as fast as it goes, with nothing performed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from smart_monitor.config import Settings
from smart_monitor.engine import Engine
from smart_monitor.journal import journal_files, read_journal, run_name
from smart_monitor.model import Output, Record
from smart_monitor.registry import rule_classes
from smart_monitor.sources import jsonl
from smart_monitor.sources.files import CannotSee
from smart_monitor.sources.status_json import StatusFile

STATE_DIRECTORY = ".smart_monitor"


class ReplayError(ValueError):
    """Nothing there that can be replayed; the text is one sentence for the user."""


def replay(path: Path, settings: Settings) -> Iterator[tuple[Record, list[Output]]]:
    """Every record of `path` with what the engine says of it.

    `path` is a JSONL or status file, or a run directory: then its journal is replayed, else its sources.
    Raises ReplayError for what cannot be read.
    """
    run, records = read(path)
    engine = Engine(run, settings, rule_classes())
    for record in records:
        yield record, engine.feed(record)


def read(path: Path) -> tuple[str, Iterator[Record]]:
    """(name of the run, its records in order). Raises ReplayError."""
    if path.is_dir():
        return _directory(path)
    if not path.exists():
        raise ReplayError(f"{path} does not exist")
    if path.suffix == ".json":
        return path.stem, iter(_status(path))
    return path.stem, _guarded(jsonl.records(path, path.stem), path)


def _directory(path: Path) -> tuple[str, Iterator[Record]]:
    path = path.absolute()  # "." has no name to put ".monitor" behind
    for out in (path, path.with_name(path.name + ".monitor")):
        journal = out / STATE_DIRECTORY / "journal"
        if journal_files(journal):
            run = run_name(journal) or path.resolve().name
            return run, _guarded((record for _, record in read_journal(journal, run)), journal)
    name = path.resolve().name
    rows = sorted(p for p in path.glob("*.jsonl") if p.is_file())
    if rows:
        return name, _guarded(jsonl.records(rows[0], name), rows[0])
    found = StatusFile(path, name).read({}, time.time(), 0.0)
    if not found.sight.ok:
        raise ReplayError(f"nothing to replay in {path}: no journal, no *.jsonl; {found.sight.why}")
    return name, iter(_numbered(found.records))


def _status(path: Path) -> list[Record]:
    base = path.parent.parent if path.parent.name == "status" else path.parent
    found = StatusFile(base, path.stem).read({}, time.time(), 0.0)
    if not found.sight.ok:
        raise ReplayError(found.sight.why)
    return _numbered(found.records)


def _numbered(records: list[Record]) -> list[Record]:
    return [r._replace(index=i) for i, r in enumerate(records)]


def _guarded(records: Iterator[Record], path: Path) -> Iterator[Record]:
    try:
        yield from records
    except CannotSee as error:
        raise ReplayError(str(error)) from error
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
