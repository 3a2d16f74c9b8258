"""`smart-monitor snapshots push`: copies to the remote, by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli._progress import Progress
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.cli.snapshots._remote import remote_of, run_of
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.units import size


@click.command()
@click.argument("names", nargs=-1)
@base_dir
@out_dir
@click.option("--to", "url", metavar="URL", help="The remote.  [default: the setting `remote`]")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML file of settings.")
@click.option("--verify", "thorough", is_flag=True, help="Read every byte there again; what is wrong is sent anew.")
@click.option("--overwrite", is_flag=True, help="Also replace what stands there under these names and is not known to be ours.")
@as_json
def command(
    names: tuple[str, ...], base_dir: Path, out: Path | None, url: str | None, config: Path | None, thorough: bool,
    overwrite: bool, json_: bool,
) -> None:  # fmt: skip
    """Copy snapshots to the remote now: those of the given NAMES (or unique beginnings), else all that are not known to
    stand there (with --verify: all). What stands there already is not sent again. Exits 1 if one of them does not stand
    there in the end.

    \b
    Example:
      smart-monitor snapshots push --base-dir runs/llama-7b --to s3://bucket/prefix
      smart-monitor snapshots push anomaly_20251112_143022 --verify
    """
    from smart_monitor.snapshots.remote.sender import perform

    settings, place = remote_of(base_dir, config, url), place_of(base_dir, out)
    asked = [directory_of(place, n).name for n in names]
    if thorough and not names:  # what is known to stand there is what is to be read again
        asked = [s.name for s in list_snapshots(place)]
    job = {
        "out": str(place), "run": run_of(base_dir), "url": settings.remote, "options": dict(settings.remote_options),
        "rate": settings.remote_rate_mb * 2**20, "names": asked,
        "theirs": [str(base_dir.absolute()), str(place)], "overwrite": overwrite, "thorough": thorough,
    }  # fmt: skip
    told: list[dict[str, Any]] = []
    with Progress("Sending", 1, quiet=json_) as progress:
        done = {"bytes": 0, "of": 0}

        def tell(message: dict[str, Any]) -> None:
            done["of"] += int(message.get("of", 0))
            told.append(message)

        def alive(amount: int) -> None:
            done["bytes"] += amount
            progress.reached(done["bytes"], done["of"])

        result = perform(job, tell, alive)
    sent, refused = [m for m in told if "sent" in m], [m for m in told if "refused" in m]
    if json_:
        click.echo(json.dumps({**result, "sent": sent, "refused": refused}, indent=2))
    else:
        for m in sent:
            proof = f"proven by {m['proof']}" if m["proof"] else "it stood there already"
            click.echo(f"ok   {m['sent']} stands at {m['at']} ({size(m['bytes'])}; {proof})")
        for m in refused:
            click.echo(f"BAD  {m['refused']}: {m['why']}")
        if result["result"] != "done":
            click.echo(f"Not all was sent: {result['why']}", err=True)
        elif not sent and not refused:
            click.echo(f"Nothing to send: every snapshot is known to stand at {settings.remote}.")
    sys.exit(1 if refused or result["result"] != "done" else 0)
