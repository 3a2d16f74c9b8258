"""`smart-monitor stop`: end the monitor of a run, or of several."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smart_monitor.cli._options import base_dirs, out_dir, several

if TYPE_CHECKING:
    from smart_monitor.daemon.lock import Holder


@click.command()
@base_dirs
@out_dir
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait for it to end.")
def command(bases: tuple[Path, ...], patterns: tuple[str, ...], out: Path | None, timeout: float) -> None:
    """End the monitor that watches a run: a copy under way may finish, the state is saved. One that watches several runs
    ends for all of them, and that is said.

    \b
    Example:
      smart-monitor stop --base-dir runs/llama-7b
      smart-monitor stop --runs 'runs/*'
    """
    from smart_monitor.daemon.lock import holder_of
    from smart_monitor.daemon.place import Place

    runs = several(bases, patterns)
    if out is not None and len(runs) > 1:
        raise click.UsageError("--out is for one run.")
    asked: dict[int, tuple[Path, int]] = {}
    fine, end = True, time.monotonic() + timeout
    for base in runs:
        lock = Place(base, out).lock
        holder = holder_of(lock)
        if holder is not None and holder.pid not in asked:
            count = runs_of(holder.pid)
            if ask(holder, base):
                asked[holder.pid] = lock, count
            else:
                fine = False
    if fine and not asked:
        click.echo(f"No monitor watches {runs[0]}." if len(runs) == 1 else f"No monitor watches any of these {len(runs)} runs.")
        sys.exit(1)
    for pid, (lock, count) in asked.items():
        while (ended := holder_of(lock) is None and not runs_of(pid)) is False and time.monotonic() < end:
            time.sleep(0.05)
        if ended:
            click.echo(f"Stopped process {pid}" + (f", which watched {count} runs." if count > 1 else "."))
        else:
            click.echo(f"Process {pid} was told to stop and has not ended within {timeout:g} s.")
            fine = False
    sys.exit(0 if fine else 1)


def ask(holder: Holder, base: Path) -> bool:
    """Tell a monitor to end; was that possible?"""
    if holder.pid <= 1:
        click.echo(f"{base} is watched, but by whom can't be told; end that process by hand.")
    elif holder.host != socket.gethostname():
        click.echo(f"The monitor of {base} is process {holder.pid} on {holder.host}; stop it there.")
    else:
        try:
            os.kill(holder.pid, signal.SIGTERM)
            return True
        except (ProcessLookupError, PermissionError) as error:
            click.echo(f"Process {holder.pid} can't be stopped: {error.strerror}.")
    return False


def runs_of(pid: int) -> int:
    """How many runs a process of this host holds; 0 if it has ended or is not ours to look at."""
    count = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                count += os.readlink(f"/proc/{pid}/fd/{name}").endswith("/.smart_monitor/lock")
            except OSError:
                continue
    except OSError:
        return 0
    return count
