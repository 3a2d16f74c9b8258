"""`smart-monitor init`: a commented configuration."""

from __future__ import annotations

from pathlib import Path

import click

from smart_monitor.cli._options import base_dir
from smart_monitor.configfile import RUN_FILE, example


@click.command()
@base_dir
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(base_dir: Path, force: bool) -> None:
    """Write smart_monitor.toml with every setting, explained and commented out.

    \b
    Example:
      smart-monitor init --base-dir runs/llama-7b
    """
    path = base_dir / RUN_FILE
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError:
        raise click.UsageError(f"{path} is there already; --force replaces it.") from None
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    click.echo(f"Wrote {path}.")
