"""What the commands about snapshots share: from a run and what a user typed to directories, and how things are shown."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click

from smart_monitor.snapshots.listing import list_snapshots, locate
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.trash import dropped


def place_of(base: Path, out: Path | None) -> Path:
    """Where the run's snapshots/ and our own files lie; a UsageError if that is no directory."""
    from smart_monitor.daemon.place import find_out

    place = out.absolute() if out else find_out(base.absolute())
    if not place.is_dir():  # nothing there and nothing damaged there are two things
        raise click.UsageError(f"there is no directory {shown(str(place))}")
    return place


def directory_of(place: Path, name: str, *, whole: bool = True) -> Path:
    """The directory of the snapshot of that name or unique beginning; a UsageError if there is none.

    `whole`: also if it is one that can't be listed, because it is half-deleted or its metadata is damaged.
    """
    try:
        found = locate(place, name)
    except LookupError as error:
        raise click.UsageError(f"{error.args[0]}{_gone(place, name)}") from error
    if whole and found not in [s.path for s in list_snapshots(place)]:
        raise click.UsageError(f"{shown(found.name)} is damaged; `snapshots verify` says how")
    return found


def _gone(place: Path, name: str) -> str:
    known = dropped(place, name) if name else []
    if not known:
        return ""
    last = known[-1]
    return f"; {shown(last['name'])} was dropped on {moment(last['time'])} ({shown(last['rule'])})"


def moment(seconds: float) -> str:
    """Unix seconds as local time, for people."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"


def age(seconds: float) -> str:
    """How long ago, in one short word."""
    if seconds < 0:
        return "ahead"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def since(text: str, now: float) -> float:
    """`7d`, `12h`, `30min` ago, or a date, as unix seconds. Raises click.BadParameter."""
    for unit, length in (("min", 60.0), ("d", 86400.0), ("h", 3600.0)):
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return now - float(number) * length
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"{text!r} is neither an age such as 7d, 12h or 30min nor a date such as 2025-11-12") from error
