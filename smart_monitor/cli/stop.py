"""`smart-monitor stop`: end the monitor of a run, or of several."""

from __future__ import annotations

import os
import re
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
    from smart_monitor.daemon.place import Place


@click.command()
@base_dirs
@out_dir
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait for it to end.")
def command(bases: tuple[Path, ...], patterns: tuple[str, ...], out: Path | None, timeout: float) -> None:
    """End the monitor that watches a run: a copy under way may finish, the state is saved. One that watches other runs as
    well lets go of this one and goes on; it does not take it up again by itself. Exits 1 if
    nobody watches the run, or if the monitor does not end in time.

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
    asked: dict[int, list[Place]] = {}
    whole: dict[int, int] = {}
    fine, end = True, time.monotonic() + timeout
    for base in runs:
        place = Place(base, out)
        holder = holder_of(place.lock)
        if holder is not None and holder.pid in asked:
            asked[holder.pid].append(place)
        elif holder is not None and _is_ours_to_stop(holder, base):
            asked[holder.pid] = [place]
        elif holder is not None:
            fine = False
    if fine and not asked:
        click.echo(f"No monitor watches {runs[0]}." if len(runs) == 1 else f"No monitor watches any of these {len(runs)} runs.")
        sys.exit(1)
    for pid, places in asked.items():
        count = runs_of(pid)
        if (count > len(places) or (not patterns and _looks_for_runs(pid))) and _can_let_go(pid):
            fine &= _ask_to_let_go(pid, places)
        else:
            whole[pid] = count
            fine &= _signal(pid, signal.SIGTERM)
    for pid, places in asked.items():
        while (
            ended := all(holder_of(p.lock) is None for p in places) and not (pid in whole and runs_of(pid))
        ) is False and time.monotonic() < end:
            time.sleep(0.05)
        fine &= ended
        click.echo(_told(pid, places, whole.get(pid), timeout, ended=ended))
    sys.exit(0 if fine else 1)


def _told(pid: int, places: list[Place], count: int | None, timeout: float, *, ended: bool) -> str:
    """How it went, in a sentence; `count`: how many runs a process that was to end watched, None for one that is to go on."""
    if not ended:
        return f"Process {pid} was told to stop and has not ended within {timeout:g} s."
    if count is not None:
        return f"Stopped process {pid}" + (f", which watched {count} runs." if count > 1 else ".")
    which = str(places[0].base) if len(places) == 1 else f"{len(places)} runs"
    others = runs_of(pid)
    rest = f"its {others} other run{'s' * (others != 1)}" if others else "looking for runs"
    return f"Stopped watching {which}. Process {pid} goes on with {rest}; `kill {pid}` ends it."


def _is_ours_to_stop(holder: Holder, base: Path) -> bool:
    """Can the monitor be told anything from here? If not, that is said."""
    if holder.pid <= 1:
        click.echo(f"{base} is watched, but by whom can't be told; end that process by hand.")
    elif holder.host != socket.gethostname():
        click.echo(f"The monitor of {base} is process {holder.pid} on {holder.host}; stop it there.")
    else:
        return True
    return False


def _ask_to_let_go(pid: int, places: list[Place]) -> bool:
    """Tell a monitor to let go of these runs; was that possible?"""
    for place in places:
        try:
            place.ask_to_stop(pid)
        except OSError as error:
            click.echo(f"{place.stop} can't be written: {error.strerror}.")
            return False
    return _signal(pid, signal.SIGUSR1)


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
        return True
    except (ProcessLookupError, PermissionError) as error:
        click.echo(f"Process {pid} can't be stopped: {error.strerror}.")
    return False


def _can_let_go(pid: int) -> bool:
    """Does the process listen to the signal that asks for it? One that does not would die of it."""
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", _proc(pid, "status").decode(errors="replace"), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGUSR1 - 1) & 1)


def _looks_for_runs(pid: int) -> bool:
    """Was it started with a pattern, and is of use without any run?"""
    return any(word.startswith(b"--runs") for word in _proc(pid, "cmdline").split(b"\0"))


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


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
