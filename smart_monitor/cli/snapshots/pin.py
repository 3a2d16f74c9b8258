"""`smart-monitor snapshots pin`: keep for ever."""

from __future__ import annotations

from pathlib import Path

import click

from smart_monitor.cli._options import base_dir, out_dir
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.snapshots.pins import PinsUnusable, pin


@click.command()
@click.argument("names", nargs=-1, required=True)
@base_dir
@out_dir
def command(names: tuple[str, ...], base_dir: Path, out: Path | None) -> None:
    """Keep snapshots for ever: no rule drops what is pinned. NAMES may be unique beginnings.

    \b
    Example:
      smart-monitor snapshots pin anomaly_20251112_143022 --base-dir runs/llama-7b
    """
    place = place_of(base_dir, out)
    found = [directory_of(place, name, whole=False).name for name in names]
    try:
        new = pin(place, found)
    except (PinsUnusable, OSError) as error:
        raise click.ClickException(str(error)) from error
    for name in dict.fromkeys(found):
        click.echo(f"{'Pinned' if name in new else 'Was pinned already:'} {name}")
