"""`smart-monitor snapshot`: one now, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir, require_ours, settings_of
from smart_monitor.cli._progress import Progress
from smart_monitor.snapshots.names import shown
from smart_monitor.units import size


@click.command()
@base_dir
@out_dir
@click.option("--note", default="", metavar="TEXT", help="Why, for later: kept in metadata.json and shown by `snapshots show`.")
@click.option("--pin", "pinned", is_flag=True, help="Keep it for ever.")
@click.option("--next", "follow", is_flag=True, help="Wait for the next checkpoint that the trainer completes, and keep that.")
@click.option(
    "--wait", type=click.FloatRange(min=0), metavar="SECONDS",
    help="If no checkpoint is complete, wait so long for one that is being written.  [default: 30]",
)  # fmt: skip
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file of settings.  [default: smart_monitor.toml in the run]",
)
@as_json
def command(
    base_dir: Path, out: Path | None, note: str, pinned: bool, follow: bool, wait: float | None, config: Path | None, json_: bool
) -> None:
    """Keep the newest complete checkpoint of a run now, verified like any other snapshot; prints its name.

    Works beside a running monitor and without one. Exits 1 if nothing could be kept.

    \b
    Example:
      smart-monitor snapshot --base-dir runs/llama-7b --note "before the new data" --pin
      smart-monitor snapshot --next
    """
    from smart_monitor.daemon.byhand import ByHand, NotTaken
    from smart_monitor.daemon.place import Place
    from smart_monitor.snapshots.pins import PinsUnusable, pin

    if not base_dir.is_dir():
        raise click.UsageError(f"{shown(str(base_dir))} is not a directory.")
    require_ours(base_dir, out)
    settings, _ = settings_of(base_dir, config, {})
    place = Place(base_dir.absolute(), out.absolute() if out else None)

    def waiting(what: str) -> None:
        click.echo(f"Waiting: {shown(what)}", err=True)

    try:
        with Progress("Copying", 1, quiet=json_) as progress:
            done = ByHand(place, settings).take(
                note=note, follow=follow, wait=wait, waiting=waiting, copying=progress.reached
            )  # fmt: skip
        if pinned:
            pin(place.out, [done.name])
    except NotTaken as error:
        raise click.ClickException(f"nothing was kept: {shown(str(error))}") from error
    except (PinsUnusable, OSError) as error:
        raise click.ClickException(str(error)) from error
    checkpoint = done.checkpoint
    if json_:
        found = {"schema": 1, "name": done.name, "path": str(done.path), "bytes": done.bytes, "seconds": done.seconds}
        kept = {"checkpoint": checkpoint and checkpoint.name, "step": checkpoint and checkpoint.step, "pinned": pinned}
        click.echo(json.dumps(found | kept | {"missing": done.missing}, indent=2))
        return
    what = shown(checkpoint.name) if checkpoint else "the model files (no checkpoint is complete)"
    click.echo(f"Kept {what}: {size(done.bytes)} in {done.seconds:.1f} s, every digest checked")
    click.echo(f"  {done.path}")
    for missing in done.missing:
        click.echo(f"  missing: {shown(str(missing.get('path') or missing.get('what')))}: {shown(str(missing.get('why')))}")
    for sentence in done.unfinished[:3]:
        click.echo(f"  not in it: {shown(sentence)} (--next waits for it)")
    if not pinned:
        days = f"{settings.keep_days:g} days" if settings.keep_days else "ever"
        click.echo(
            f"  It is kept for {days}, and as one of the last {settings.keep_last} by hand; `snapshots pin` keeps it for ever."
        )
