"""`smart-monitor stop`: end the monitor of a run."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import click

from smart_monitor.cli._options import base_dir, out_dir


@click.command()
@base_dir
@out_dir
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait for it to end.")
def command(base_dir: Path, out: Path | None, timeout: float) -> None:
    """End the monitor that watches a run: a copy under way may finish, the state is saved.

    \b
    Example:
      smart-monitor stop --base-dir runs/llama-7b
    """
    from smart_monitor.daemon.lock import holder_of
    from smart_monitor.daemon.place import Place

    place = Place(base_dir.absolute(), out)
    holder = holder_of(place.lock)
    if holder is None:
        click.echo(f"No monitor watches {place.base}.")
        sys.exit(1)
    if holder.pid <= 1:
        click.echo(f"{place.base} is watched, but by whom can't be told; end that process by hand.")
        sys.exit(1)
    if holder.host != socket.gethostname():
        click.echo(f"The monitor of {place.base} is process {holder.pid} on {holder.host}; stop it there.")
        sys.exit(1)
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        click.echo(f"Process {holder.pid} can't be stopped: {error.strerror}.")
        sys.exit(1)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if holder_of(place.lock) is None:
            click.echo(f"Stopped process {holder.pid}.")
            return
        time.sleep(0.05)
    click.echo(f"Process {holder.pid} was told to stop and has not ended within {timeout:g} s.")
    sys.exit(1)
