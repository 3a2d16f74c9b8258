"""`smart-monitor snapshots fetch`: back from the remote."""

from __future__ import annotations

import os
from pathlib import Path

import click

from smart_monitor.cli._options import base_dir
from smart_monitor.cli._progress import Progress
from smart_monitor.cli.snapshots._remote import remote_of, run_of
from smart_monitor.units import size


@click.command()
@click.argument("name", required=False)
@base_dir
@click.option("--from", "url", metavar="URL", help="The remote.  [default: the setting `remote`]")
@click.option("--run", metavar="RUN", help="The run's name there.  [default: that of the run's directory]")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="The new directory.  [default: ./NAME]")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML file of settings.")
def command(name: str | None, base_dir: Path, url: str | None, run: str | None, target: Path | None, config: Path | None) -> None:
    """Bring a snapshot back from the remote to a new directory, every file compared with its digest. Without NAME, list
    what stands there. NAME may be any unique beginning.

    \b
    Example:
      smart-monitor snapshots fetch --run llama-7b --from s3://bucket/prefix
      smart-monitor snapshots fetch anomaly_20251112_143022 --run llama-7b --from s3://bucket/prefix --to back
    """
    from smart_monitor.snapshots.remote.address import run_folder
    from smart_monitor.snapshots.remote.fetch import NotFetched, fetch, standing
    from smart_monitor.snapshots.remote.place import Remote
    from smart_monitor.snapshots.remote.sender import sentence

    settings, folder = remote_of(base_dir, config, url), run_folder(run or run_of(base_dir))
    try:
        remote = Remote(settings.remote, settings.remote_options)
        found = standing(remote, folder)
        if name is None:
            click.echo("\n".join(found) if found else f"No snapshot stands at {remote.at(folder)}.")
            return
        fitting = [n for n in found if n == name] or [n for n in found if name and n.startswith(name)]
        if len(fitting) != 1:
            what = f"{len(fitting)} snapshots fit" if fitting else "no snapshot is called"
            raise click.UsageError(f"{what} {name!r} at {remote.at(folder)}")
        goal = target or Path(fitting[0])
        with Progress("Fetching", 1) as progress:
            bytes_ = fetch(remote, folder, fitting[0], goal, progress.reached)
    except NotFetched as error:
        raise click.ClickException(f"{name} is not fetched: {error}") from error
    except click.ClickException:
        raise
    except Exception as error:  # whatever a file system behind fsspec may raise
        raise click.ClickException(sentence(error)) from error
    click.echo(f"{os.path.abspath(goal)} ({size(bytes_)}, every file as published)")
