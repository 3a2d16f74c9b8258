"""`smart-monitor demo`: a training that goes wrong, watched."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where to run it.  [default: a new temporary one]",
)
def command(directory: Path | None) -> None:
    """Train a real small language model beside the monitor, raise its learning rate half-way, show what was kept.
    Exits 1 if nothing was caught.

    \b
    Example:
      smart-monitor demo
    """
    from smart_monitor.demo.show import run_demo

    sys.exit(run_demo(directory))
