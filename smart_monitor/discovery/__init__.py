"""Looking into a run's directory for what its trainer writes, and choosing what to read.

Bounded in depth, entries and time, since it is pointed at directories nobody has tidied. Never enters what is
ours, hidden, or an environment of packages; links to directories are not followed. Of files that may hold
anything (`*.jsonl`, `*.csv`, `*.log`), the beginning is read before one is chosen. Nothing is written.

Of each format, the place written last is chosen, with what belongs to the same run: files beside it, the
directory of its evaluation, its other ranks. What is found and not chosen is named, with the reason.
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smart_monitor.discovery.walk import MAX_MARKS, Marks, named, walk
from smart_monitor.names import clean
from smart_monitor.sources import Cursor, Format, Options, Source, formats
from smart_monitor.sources.files import CannotSee, identity_of
from smart_monitor.stats.crew import words

MAX_PLACES = 200
"""Places of one format that are weighed."""
MAX_LOOKED_INTO = 20
"""Places of one format whose content is looked at, the newest first."""
OF_OLD = 86_400.0
"""Seconds behind the newest after which a place is of another run."""
ONE_AGE = 2.0
"""Seconds within which times of copied files mean nothing."""

MAX_LOOKS = 8
"""Passes of a source over one place at a time, for the first metrics: before them may stand a megabyte of progress bars."""

Verdicts = dict[tuple[str, str], tuple[list[int], str, Cursor]]
"""(format, place) -> its identity when it was looked into, why it is of no use, and how far it was read to know that."""

_PROBE = re.compile(r"probe_rank_\d+\.jsonl")
"""What the probe writes in training: the loss before any filter, gradients before clipping, and whose they are."""
_RANK = re.compile(r"(?:^|[_.-])rank[_-]?(\d{1,6})(?=[_.-]|$)")
_EVALUATION = frozenset({"train", "training", "validation", "val", "eval", "evaluation", "test"})
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Seen:
    """One source that could be read."""

    format: Format
    place: Path
    written: float
    """Unix seconds of the last change of its files."""
    files: int
    rank: int | None = None
    """Where the name says so."""
    why: str = ""
    """Why it is read, or left out: a clause."""

    def open(self, run: str, name: str = "", options: Options | None = None) -> Source:
        """The source itself; `name` tells it from others of the run."""
        return self.format.open(self.place, run, name, options or Options())


@dataclass(slots=True)
class Found:
    """What lies in a run's directory."""

    base: Path
    chosen: list[Seen] = field(default_factory=list)
    """What is to be read, the most trusted first."""
    others: list[Seen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not looked at, in sentences."""
    marks: Marks = field(default_factory=Marks)

    def moved_on(self, most: int = MAX_MARKS) -> bool:
        """May there be something else to choose by now? `most`: of how many directories and files that is asked."""
        return self.marks.moved_on(most)

    def sentences(self) -> list[str]:
        """What was found, what is read and why, for people."""
        said = self.told("Reads", self.chosen)
        alike: dict[tuple[str, str], list[Seen]] = {}
        for seen in self.others:
            alike.setdefault((seen.format.title, seen.why), []).append(seen)
        for (title, why), left in alike.items():
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            said.append(f"Leaves out {self.shown(left[0])}{more} ({title}): {why}.")
        return said + self.notes

    def told(self, begins: str, read: Iterable[Seen]) -> list[str]:
        """A sentence for each of these, with its reason; one for the files of all ranks."""
        alike: dict[tuple[str, str], list[Seen]] = {}
        for seen in read:
            of_a_rank = seen.rank is not None
            key = _NUMBERS.sub("", str(seen.place)) + seen.why.partition(",")[2] if of_a_rank else str(seen.place)
            alike.setdefault((seen.format.title, key), []).append(seen)
        said = []
        for (title, _), (first, *more) in alike.items():
            why, rest = first.why, f" and {len(more)} more" if more else ""
            if more:
                why = f"{words([s.rank for s in (first, *more) if s.rank is not None])},{why.partition(',')[2]}"
                why = why.replace(_ITS_RANK, f"each {_ITS_RANK}s own")
            said.append(f"{begins} {self.shown(first)}{rest} ({title}): {why}.")
        return said

    def shown(self, seen: Seen) -> str:
        """The place of a source as its user would call it."""
        try:
            inner = seen.place.relative_to(self.base)
        except ValueError:
            inner = seen.place
        return clean(self.base if str(inner) == "." else inner, 200)


def find(
    base: Path, *, only: str = "", live: bool = True, options: Options | None = None,
    followed: Container[Path] = (), verdicts: Verdicts | None = None, clock: Callable[[], float] = time.monotonic,
) -> Found:  # fmt: skip
    """Everything in `base` that can be read. Never raises.

    `only`: the name of a format or of a place, to choose nothing else; `live`: leave out what is read for replay only;
    `followed`: places whose content is known to be of use; `verdicts`: what was found of others, kept by the caller.
    """
    found = Found(base)
    look = _Look(options or Options(), followed, {} if verdicts is None else verdicts)
    places: dict[tuple[str, Path], Seen] = {}
    for path, written in walk(base, found.marks, found.notes, clock):
        for described in named(path.name):
            place = described.place(path)
            known = places.get((described.name, place)) if place is not None else None
            if place is None or (known is None and sum(f == described.name for f, _ in places) >= MAX_PLACES):
                continue
            rank = _RANK.search(path.stem) or _RANK.search(path.parent.name)
            before = known or Seen(described, place, 0.0, 0, int(rank[1]) if rank else None)
            places[described.name, place] = replace(before, written=max(before.written, written), files=before.files + 1)
    _choose(found, list(places.values()), only, live, look)
    if only and not found.chosen and (seen := _named(base, only, look.options)) is not None and (seen.format.live or not live):
        found.chosen = [replace(seen, why="it was asked for")]
    for seen in found.others:
        found.marks.file(str(seen.place))
    return found


def _named(base: Path, only: str, options: Options | None = None) -> Seen | None:
    """The file or directory that is meant, whatever it is called."""
    try:
        path = base / only
        return format_of(path, options) if path.exists() else None
    except (OSError, ValueError):
        return None


def nameless(base: Path, options: Options | None = None) -> list[Seen]:
    """Files in `base` itself that are called like those of no format and could be read all the same, if asked for."""
    try:
        with os.scandir(base) as listed:
            files = [e for e in listed if not named(e.name) and not e.name.startswith(".") and e.is_file()]
        files.sort(key=lambda e: e.stat().st_mtime, reverse=True)
        found = [format_of(Path(entry.path), options) for entry in files[:MAX_LOOKED_INTO]]
    except OSError:
        return []
    return [seen for seen in found if seen is not None]


def unknown(base: Path, only: str, options: Options | None = None) -> str:
    """Why `only` can be no source of a live run, as a sentence; empty if it may be one. Raises nothing."""
    names = [f.name for f in formats() if f.live]
    if only in names or not only:
        return ""
    if any(f.name == only for f in formats()):
        return f"{only} is a database, which is read for replay only, so that no reader holds up its writer."
    seen = _named(base, only, options)
    if seen is not None:
        return "" if seen.format.live else f"{clean(only, 200)} is {seen.format.title}, which is read for replay only."
    try:
        empty = not (base / only).stat().st_size  # who began to write it will go on
    except (OSError, ValueError):
        empty = None
    if empty is not None:
        return "" if empty else f"{clean(only, 200)} is nothing that can be read; log_patterns say how to read a text log."
    if "/" in only or "." in only:
        return ""
    near = difflib.get_close_matches(only, names, 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"{clean(only, 80)} is no format and no file of {clean(base)}: formats are {', '.join(names)}{hint}"


def _choose(found: Found, places: list[Seen], only: str, live: bool, look: _Look) -> None:
    """Divide `places` into chosen and others."""
    newest = max((s.written for s in places if s.format.live or not live), default=0.0)
    for described in sorted(formats(), key=lambda f: (f.last_resort, f.order)):
        mine = sorted((s for s in places if s.format is described), key=_age, reverse=True)
        if only:
            left = [s for s in mine if not _is_meant(found.base, s, only)]
            found.others += [replace(s, why=f"only {clean(only, 80)} was asked for") for s in left]
            mine = [s for s in mine if s not in left]
        elif live and not described.live:
            found.others += [
                replace(s, why="a database is read for replay only, so that no reader holds up its writer") for s in mine
            ]
            continue
        elif described.last_resort and any(not live or _is_better(s.format, described) for s in found.chosen):
            found.others += [replace(s, why="better sources were found") for s in mine]
            continue
        _of_one_format(found, mine, newest, look, asked=bool(only))
    found.chosen.sort(key=lambda s: (s.format.order, _PROBE.match(s.place.name) is None, s.rank or 0))
    found.chosen = [replace(s, why=_reason(s, found.chosen[:at])) for at, s in enumerate(found.chosen)]


def _is_better(other: Format, last: Format) -> bool:
    """Than a last resort, while training goes on? What is trusted less and comes later, as with a checkpoint only, is not."""
    return other.order < last.order or not other.late


def _of_one_format(found: Found, mine: list[Seen], newest: float, look: _Look, *, asked: bool) -> None:
    """Choose the newest of the places of one format, and what belongs to it."""
    first: Seen | None = None
    for at, seen in enumerate(mine):
        if seen.written < newest - OF_OLD and not asked:
            found.others.append(replace(seen, why="it was last written more than a day before the others"))
        elif first is not None and not _belongs(seen, first):
            found.others.append(replace(seen, why=f"{found.shown(first)} was written later"))
        elif seen.format.vague and at >= MAX_LOOKED_INTO:
            found.others.append(replace(seen, why="too many like it"))
        elif seen.format.vague and (trouble := look.into(seen)):
            found.others.append(replace(seen, why=trouble))
        else:
            first = first or seen
            found.chosen.append(seen)


class _Look:
    """Looks into files, once for each state of them."""

    def __init__(self, options: Options, followed: Container[Path], verdicts: Verdicts) -> None:
        self.options, self._followed, self._verdicts = options, followed, verdicts

    def into(self, seen: Seen) -> str:
        """`looked_into`, where that is not known."""
        if seen.place in self._followed:
            return ""
        key = seen.format.name, str(seen.place)
        try:
            identity = identity_of(os.stat(seen.place))
        except OSError:
            identity = []
        known = self._verdicts.get(key)
        if known is None or known[0] != identity:
            if len(self._verdicts) >= MAX_MARKS:
                self._verdicts.clear()
            known = self._verdicts[key] = identity, *looked_into(seen, self.options, known[2] if known is not None else {})
        return known[1]


def looked_into(seen: Seen, options: Options | None = None, cursor: Cursor | None = None) -> tuple[str, Cursor]:
    """(why its content is of no use, as a clause, empty if it is metrics; how far it was read, from `cursor` on)."""
    cursor = cursor or {}
    if seen.place.suffix == ".jsonl" and _is_our_log(seen.place):
        return "it is the log of a monitor", cursor
    source = seen.open("", options=options)
    try:
        if not seen.format.live:
            next(source.whole(lambda _: None), None)
            return "", cursor
    except (CannotSee, OSError) as error:
        return clean(error).rstrip("."), cursor
    for _ in range(MAX_LOOKS):
        first = source.read(cursor, 0.0, 0.0, True)
        if not first.sight.ok:
            return first.sight.why.rstrip("."), {}
        if any(r.step is not None or r.epoch is not None or _TRAINING & r.values.keys() for r in first.records[:200]):
            return "", cursor
        if first.records:
            return "its rows have neither step nor loss", {}
        if first.retry_in != 0.0:
            break  # at the end of the file half a row was taken as it is: from there nobody may read on
        cursor = first.cursor
    return "it holds no metrics of training", cursor


def _is_our_log(path: Path) -> bool:
    """Is it the events that a monitor wrote?"""
    try:
        with path.open("rb") as file:
            first = file.readline(400)
    except OSError:
        return False
    return first.startswith(b'{"event"') and b'"schema"' in first


_TRAINING = {"loss", "eval_loss", "reward", "grad_norm"}


def _belongs(seen: Seen, first: Seen) -> bool:
    """Is it of the same run as `first`: beside it, below it, its evaluation, another rank?"""
    if first.format.last_resort:
        return False
    mine, other = _home(seen), _home(first)
    return mine == other or (seen.place.is_dir() and other in mine.parents)


def _home(seen: Seen) -> Path:
    """The directory by which places of one run are told."""
    place = seen.place if seen.place.is_dir() else seen.place.parent
    if place.name in _EVALUATION or _RANK.search(place.name):
        place = place.parent
    return place


def _age(seen: Seen) -> tuple[float, list[tuple[int, str]]]:
    """To sort by: the time of writing, then the name with its numbers as numbers (version_12 behind version_9)."""
    parts = _NUMBERS.split(str(seen.place))
    return seen.written // ONE_AGE, [(int(p), "") if p.isdigit() and len(p) < 19 else (-1, p) for p in parts]


def _is_meant(base: Path, seen: Seen, only: str) -> bool:
    return only in (seen.format.name, str(seen.place), os.path.relpath(seen.place, base), seen.place.name)


_ITS_RANK = "judged from it"


def _reason(seen: Seen, above: Sequence[Seen]) -> str:
    """Why it is read beside those that are trusted more: for what these can't give."""
    second = any(seen.rank is None or other.rank in (None, seen.rank) for other in above)
    if seen.rank is not None:
        return f"rank {seen.rank}, " + ("for metrics that those above do not give" if second else _ITS_RANK)
    return "for metrics that those above do not give" if second else "every metric it gives is judged from it"


def format_of(path: Path, options: Options | None = None) -> Seen | None:
    """How one file, or a directory that is one source, is to be read: by name, then by content; None if nobody can."""
    written = path.stat().st_mtime
    likely = named(path.name)
    for described in likely:
        seen = Seen(described, path if not path.is_dir() else described.place(path) or path, written, 1)
        if not described.vague or (len(likely) == 1 and not described.last_resort) or not looked_into(seen, options)[0]:
            return seen
    for described in formats():
        seen = Seen(described, path, written, 1)
        if described not in likely and described.vague and not looked_into(seen, options)[0]:
            return seen
    return Seen(likely[0], path, written, 1) if likely else None
