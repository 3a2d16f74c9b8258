"""Replay: the live engine over a file or a run directory, as fast as it goes, with nothing performed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

from smart_monitor.config import Settings
from smart_monitor.discovery import Found, Seen, find, format_of
from smart_monitor.engine import Engine
from smart_monitor.journal import journal_files, read_journal, run_name
from smart_monitor.merging import Course, Merging
from smart_monitor.model import RECORD, Output, Record
from smart_monitor.registry import rule_classes
from smart_monitor.sources import Options, formats
from smart_monitor.sources.files import CannotSee

STATE_DIRECTORY = ".smart_monitor"


class ReplayError(ValueError):
    """Nothing there that can be replayed; the text is one sentence for the user."""


MAX_TOLD = 20
"""Sentences about one path; a log can be odd in every row."""


def _few(tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, for the first MAX_TOLD sentences."""
    told = 0

    def heard(sentence: str) -> None:
        nonlocal told
        told += 1
        if told <= MAX_TOLD:
            tell(sentence)
        elif told == MAX_TOLD + 1:
            tell("More of the like is not told.")

    return heard


def _unheard(sentence: str) -> None:
    """For callers who do not ask what is read."""


def replay(
    path: Path, settings: Settings, source: str = "", tell: Callable[[str], None] = _unheard
) -> Iterator[tuple[Record, list[Output]]]:
    """Every record of `path` with what the engine says of it.

    `path` is a file of any format that we read, or a run directory: then its journal is replayed, else its sources;
    `source` names one of these instead (its format or its place). What is read, and what could not be, is told.
    Raises ReplayError for what cannot be read.
    """
    run, records = read(path, source, tell, patterns=settings.log_patterns)
    engine = Engine(run, settings, rule_classes())
    for record in records:
        yield record, engine.feed(record)


def read(
    path: Path, source: str = "", tell: Callable[[str], None] = _unheard, patterns: tuple[str, ...] = ()
) -> tuple[str, Iterator[Record]]:
    """(name of the run, its records in order). Raises ReplayError.

    `Record.index` is what the format counts (`Format.index`); where several sources are merged, the record's number.
    """
    options, tell = Options(patterns=patterns), _few(tell)
    if path.is_dir() and not source:
        return _journal(path, tell) or _sources(path, source, tell, options)
    if path.is_dir():
        return _sources(path, source, tell, options)
    if not path.exists():
        raise ReplayError(f"{path} does not exist")
    seen = _as_asked(path, source) or format_of(path, options)
    if seen is None:
        raise ReplayError(f"{path} is nothing that can be read: {', '.join(f.title for f in formats())}")
    tell(f"{path}: read as {seen.format.title}")
    return path.stem, _guarded(seen.open(path.stem, options=options).whole(tell), path)


def _as_asked(path: Path, source: str) -> Seen | None:
    """The file in the format that the user named."""
    if not source:
        return None
    for described in formats():
        if described.name == source:
            return Seen(described, path, path.stat().st_mtime, 1)
    raise ReplayError(f"{source} is no format; there are {', '.join(f.name for f in formats())}")


def _journal(path: Path, tell: Callable[[str], None]) -> tuple[str, Iterator[Record]] | None:
    path = path.absolute()  # "." has no name to put ".monitor" behind
    for out in (path, path.with_name(path.name + ".monitor")):
        journal = out / STATE_DIRECTORY / "journal"
        if journal_files(journal):
            run = run_name(journal) or path.resolve().name
            tell(f"{path}: its journal is read, as it was judged")
            return run, _guarded((record for _, record in read_journal(journal, run)), journal)
    return None


def _sources(path: Path, source: str, tell: Callable[[str], None], options: Options) -> tuple[str, Iterator[Record]]:
    """What the trainer wrote."""
    name = path.resolve().name
    found = find(path, only=source, live=False, options=options)
    for sentence in found.sentences():
        tell(sentence)
    if not found.chosen:
        asked = f"no {source}" if source else "no journal and nothing that a trainer wrote"
        raise ReplayError(f"nothing to replay in {path}: {asked}")
    if len(found.chosen) == 1:
        return name, _guarded(_of(found.chosen[0], name, "", tell, options), found.chosen[0].place)
    return name, _guarded(merged(found, name, tell, options), path)


def _of(seen: Seen, run: str, name: str, tell: Callable[[str], None], options: Options) -> Iterator[Record]:
    """The records of one source, of the rank that its name says."""
    for record in seen.open(run, name, options).whole(tell):
        yield record._replace(rank=seen.rank) if seen.rank is not None and not record.rank else record


def merged(found: Found, run: str, tell: Callable[[str], None], options: Options) -> Iterator[Record]:
    """The records of several sources of one run in order of their steps, each metric from one of them, numbered anew."""
    names = [found.shown(seen) for seen in found.chosen]
    merging = Merging(names)
    feeds = [_placed(at, _of(seen, run, names[at], tell, options)) for at, seen in enumerate(found.chosen)]
    index = 0
    for _, _, record in heapq.merge(*feeds, key=lambda placed: placed[:2]):
        judged = merging.share(record).judged
        if judged is not None:
            yield judged._replace(index=index)
            index += judged.kind == RECORD


def _placed(at: int, records: Iterator[Record]) -> Iterator[tuple[float, int, Record]]:
    """(place, `at`, record): the place sorts it among those of other sources."""
    course = Course()
    for record in records:
        yield course.put(record.step), at, record


def _guarded(records: Iterator[Record], path: Path) -> Iterator[Record]:
    try:
        yield from records
    except CannotSee as error:
        raise ReplayError(str(error)) from error
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
