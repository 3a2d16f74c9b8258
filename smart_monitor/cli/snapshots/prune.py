"""`smart-monitor snapshots prune`: drop what no rule keeps, now."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir, settings_of
from smart_monitor.cli.snapshots._named import place_of
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pins import PinsUnusable
from smart_monitor.snapshots.prune import Outcome, look, prune
from smart_monitor.units import size


@click.command()
@base_dir
@out_dir
@click.option("--dry-run", is_flag=True, help="Say what would go, and drop nothing.")
@click.option("--keep-days", type=float, help="Days that a snapshot is kept; 0 = for ever.  [default: 30]")
@click.option("--keep-last", type=int, help="So many of each reason stay, however old.  [default: 3]")
@click.option("--keep-bests", type=int, help="So many best models stay; 0 = all of them.  [default: 0]")
@click.option("--keep-total-gb", type=float, help="GiB that all may take together; 0 = no limit.  [default: 0]")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file of settings.  [default: smart_monitor.toml in the run]",
)
@as_json
def command(base_dir: Path, out: Path | None, dry_run: bool, config: Path | None, json_: bool, **flags: Any) -> None:
    """Drop what the rules no longer keep; names the rule behind every keep and every drop.

    The current best model, the newest sound snapshot and what is pinned never go. A running monitor prunes by
    itself once a day (`prune = false` stops that). Exits 1 if something could not be dropped.

    \b
    Example:
      smart-monitor snapshots prune --dry-run --base-dir runs/llama-7b
      smart-monitor snapshots prune --keep-days 7 --keep-total-gb 200
    """
    settings, _ = settings_of(base_dir, config, flags)
    place = place_of(base_dir, out)
    try:
        done = look(place, settings, time.time()) if dry_run else prune(place, settings, time.time())
    except (PinsUnusable, OSError) as error:
        raise click.ClickException(f"nothing was dropped: {error}") from error
    if json_:
        gone = {v.name for v in done.dropped}
        click.echo(
            json.dumps({
                "schema": 1, "dry_run": dry_run, "bytes_before": done.plan.before, "bytes_after": done.plan.after,
                "snapshots": [asdict(v) | {"dropped": v.name in gone} for v in done.plan.verdicts],
                "damaged": done.damaged, "troubles": done.troubles,
            }, indent=2)
        )  # fmt: skip
    else:
        _print(done, dry_run)
    sys.exit(1 if done.troubles else 0)


def _print(done: Outcome, dry: bool) -> None:
    for verdict in done.plan.verdicts:
        click.echo(f"{'keep' if verdict.keep else 'drop'}  {size(verdict.bytes):>9}  {verdict.name}  ({shown(verdict.rule)})")
    for name in done.damaged:
        click.echo(f"left  {'?':>9}  {name}  (damaged or half-deleted: `snapshots verify` says how, delete it by hand)")
    for trouble in done.troubles:
        click.echo(f"Error: {trouble}", err=True)
    if done.plan.unmet:
        click.echo(f"Warning: {done.plan.unmet}", err=True)
    drops, kept = len(done.plan.drops if dry else done.dropped), len(done.plan.verdicts) - len(done.plan.drops)
    freed = size(done.plan.before - done.plan.after)
    would = ("would be ", "would be freed") if dry else ("", "freed")
    click.echo(f"{kept} kept, {drops} {would[0]}dropped, {freed} {would[1]}")
