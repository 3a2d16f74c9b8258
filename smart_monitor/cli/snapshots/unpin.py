"""`smart-monitor snapshots unpin`: let the rules decide again."""

from __future__ import annotations

from pathlib import Path

import click

from smart_monitor.cli._options import base_dir, out_dir
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.snapshots.pins import PinsUnusable, unpin


@click.command()
@click.argument("names", nargs=-1, required=True)
@base_dir
@out_dir
def command(names: tuple[str, ...], base_dir: Path, out: Path | None) -> None:
    """Let the rules decide again about pinned snapshots. NAMES may be unique beginnings.

    \b
    Example:
      smart-monitor snapshots unpin anomaly_20251112_143022 --base-dir runs/llama-7b
    """
    place = place_of(base_dir, out)
    found = [directory_of(place, name, whole=False).name for name in names]
    try:
        had = unpin(place, found)
    except (PinsUnusable, OSError) as error:
        raise click.ClickException(str(error)) from error
    for name in dict.fromkeys(found):
        click.echo(f"{'Unpinned' if name in had else 'Was not pinned:'} {name}")
