"""`smart-monitor snapshots restore`: back to a directory that a trainer resumes from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli._progress import Progress
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.snapshots.listing import read_metadata
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.restore import Refused, Restored, Taken, part_of, restore
from smart_monitor.units import size


@click.command()
@click.argument("name")
@base_dir
@out_dir
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The new directory.  [default: restored/ beside snapshots/]",
)
@click.option("--last-good", is_flag=True, help="The last good checkpoint from before the trouble, instead of the newest.")
@click.option("--force", is_flag=True, help="If DIR is there already, rename it to DIR.before-<time> first.")
@click.option("--unverified", is_flag=True, help="Also if files are not what was published; they are named.")
@as_json
def command(
    name: str, base_dir: Path, out: Path | None, target: Path | None, last_good: bool, force: bool, unverified: bool, json_: bool
) -> None:
    """Write the checkpoint of a snapshot to a new directory that the trainer can resume from. Exits 1 if it is damaged.

    Every file is compared with its digest while it is copied, and DIR appears whole in one step or not at all.
    Nothing that is there already is written over. NAME may be any unique beginning.

    \b
    Example:
      smart-monitor snapshots restore anomaly_20251112_143022 --to runs/again/checkpoint-17500
      smart-monitor snapshots restore anomaly_20251112_143022 --last-good
    """
    place = place_of(base_dir, out)
    path = directory_of(place, name, whole=False)
    try:
        document = read_metadata(path)
        part = part_of(document, last_good=last_good)
        goal = target or place / "restored" / (path.name + "_last_good" * last_good)
        with Progress("Restoring", 2 * part.bytes, quiet=json_) as progress:
            done = restore(path, goal, last_good=last_good, unverified=unverified, replace=force, passed=progress.passed)
    except Taken as error:
        raise click.UsageError(f"{error}{_help(str(error), unverified)}") from error
    except (Refused, ValueError) as error:
        raise click.ClickException(f"{path.name} is not restored: {error}{_help(str(error), unverified)}") from error
    except OSError as error:
        raise click.ClickException(f"{path.name} is not restored: {error.strerror or error}") from error
    if json_:
        click.echo(json.dumps(_plain(path.name, done, document), indent=2))
        return
    checked = "every digest checked" if not done.bad else "NOT what was published"
    files = f"{len(done.files)} file{'s' * (len(done.files) != 1)}"
    click.echo(f"Restored {shown(part.name)} of {path.name}: {files}, {size(done.bytes)}, {checked}")
    click.echo(f"  to          {shown(str(done.path))}")
    for bad in done.bad:
        click.echo(f"  Warning     {shown(bad)} is not what was published", err=True)
    if done.aside:
        click.echo(f"  put aside   {shown(str(done.aside))}")
    click.echo(f"  resume      {hint(done, part.described.get('layout'))}")
    if text := _rollback(document, last_good):
        click.echo(f"  note        {text}")


def hint(done: Restored, layout: Any) -> str:
    """How a trainer of that layout is told to go on from there."""
    place = shown(str(done.path))
    if layout == "hf_trainer":
        return f'trainer.train(resume_from_checkpoint="{place}")'
    if any(f.endswith(".ckpt") for f in done.files):
        [first, *_] = [f for f in done.files if f.endswith(".ckpt")]
        return f'trainer.fit(model, ckpt_path="{place}/{shown(first)}")'
    return f"point your trainer at {shlex.quote(place)}"


def _rollback(document: dict[str, Any], last_good: bool) -> str:
    note = document.get("rollback")
    if not isinstance(note, dict):
        return ""
    steps = note.get("suspect_steps")
    if last_good and isinstance(steps, list) and len(steps) == 2:
        return shown(f"Look at steps {steps[0]}–{steps[1]}: that is where the trouble is.")
    return shown(str(note.get("text", "")))


def _help(error: str, unverified: bool) -> str:
    if error.endswith("is there already"):
        return "; --to takes another directory, --force puts that one aside"
    if "not what was published" in error and not unverified:
        return "; `snapshots verify` names all that is bad, --unverified restores it nevertheless"
    return ""


def _plain(name: str, done: Restored, document: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1, "snapshot": name, "path": str(done.path), "files": done.files, "bytes": done.bytes, "bad": done.bad,
        "aside": str(done.aside) if done.aside else None, "rollback": document.get("rollback"),
    }  # fmt: skip
