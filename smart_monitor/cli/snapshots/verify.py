"""`smart-monitor snapshots verify`: is every bit still what was published?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli._progress import Progress
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.snapshots.listing import directories
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.trash import reading
from smart_monitor.snapshots.verify import Problem, verify


@click.command()
@click.argument("names", nargs=-1)
@base_dir
@out_dir
@as_json
def command(names: tuple[str, ...], base_dir: Path, out: Path | None, json_: bool) -> None:
    """Read every byte again and compare with the digests taken while copying. Exits 1 if one bit differs, naming the file.

    All snapshots, or those of the given NAMES (or unique beginnings).

    \b
    Example:
      smart-monitor snapshots verify --base-dir runs/llama-7b
      smart-monitor snapshots verify anomaly_20251112_143022
    """
    place = place_of(base_dir, out)
    found = [directory_of(place, n, whole=False) for n in names] if names else directories(place)
    report: dict[str, list[Problem]] = {}
    with Progress("Verifying", sum(map(_bytes, found)), quiet=json_) as progress:
        for path in found:
            if (problems := _check(path, progress.passed)) is not None:
                report[path.name] = problems
    if json_:
        click.echo(json.dumps({n: [p._asdict() for p in problems] for n, problems in report.items()}, indent=2))
    else:
        for name, problems in report.items():
            click.echo(f"{'BAD' if problems else 'ok ':<3}  {name}")
            for problem in problems:
                click.echo(f"     {shown(problem.path)}: {shown(problem.what)}")
        click.echo(f"{len(report)} snapshot{'s' * (len(report) != 1)}, {sum(map(bool, report.values()))} bad")
    sys.exit(1 if any(report.values()) else 0)


def _check(path: Path, passed: Callable[[int], None]) -> list[Problem] | None:
    """None if it was dropped just now, which is no damage."""
    try:
        held = reading(path) if path.exists() else nullcontext()
        with held:
            return verify(path, passed) if path.exists() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return [Problem(".", f"it can't be read ({error.strerror})")]


def _bytes(path: Path) -> int:
    return sum(os.lstat(os.path.join(folder, f)).st_size for folder, _, files in os.walk(path) for f in files)
