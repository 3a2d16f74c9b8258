"""`smart-monitor snapshots list`: a table of what was kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli.snapshots._named import age, place_of, since
from smart_monitor.model import iso
from smart_monitor.snapshots.listing import Snapshot, directories, list_snapshots
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pins import PinsUnusable, pinned
from smart_monitor.snapshots.retention import storage
from smart_monitor.units import size


@click.command("list")
@base_dir
@out_dir
@click.option("--reason", "reasons", multiple=True, help="Only those kept for it, such as best_model or loss_spike; repeatable.")
@click.option("--since", "after", metavar="AGE|DATE", help="Only those since then: 7d, 12h, 2025-11-12.")
@as_json
def command(base_dir: Path, out: Path | None, reasons: tuple[str, ...], after: str | None, json_: bool) -> None:
    """All snapshots, the oldest first.

    \b
    Example:
      smart-monitor snapshots list --base-dir runs/llama-7b
      smart-monitor snapshots list --reason best_model --since 7d --json
    """
    place, now = place_of(base_dir, out), time.time()
    begin = since(after, now) if after else None
    whole = list_snapshots(place)
    found = [s for s in whole if _is_asked_for(s, reasons, begin)]
    try:
        pins = set(pinned(place))
    except PinsUnusable as error:
        click.echo(f"Warning: {error}", err=True)
        pins = set()
    if json_:
        click.echo(json.dumps([_plain(s, pins) for s in found], indent=2))
        return
    if found:
        table(found, pins, now)
    elif whole:
        click.echo(f"None of the {len(whole)} snapshots in {place / 'snapshots'} is of that kind.")
    else:
        click.echo(f"No snapshots in {place / 'snapshots'}.")
    damaged = len(directories(place)) - len(whole)
    if damaged:
        click.echo(f"{damaged} more can't be listed, being damaged or half-deleted; `snapshots verify` says how.", err=True)


def table(found: list[Snapshot], pins: set[str], now: float) -> None:
    """One line each, and what they take together."""
    names = [shown(s.checkpoint or "-") for s in found]
    reasons = [shown("+".join(s.kinds)) for s in found]
    width, room = max(10, *map(len, names)), max(6, *map(len, reasons))
    click.echo(f"{'AGE':>6}  {'REASON':<{room}}  {'STEP':>8}  {'SIZE':>9}  PIN  {'CHECKPOINT':<{width}}  NAME")
    for s, checkpoint, reason in zip(found, names, reasons, strict=True):
        step, pin = "-" if s.step is None else str(s.step), "yes" if s.name in pins else "-"
        when = age(now - s.time)
        click.echo(f"{when:>6}  {reason:<{room}}  {step:>8}  {size(s.bytes):>9}  {pin:<3}  {checkpoint:<{width}}  {s.name}")
    total, taken = sum(s.bytes for s in found), storage(found)
    shared = f", {size(taken)} on the disk because equal files are shared" if taken < total else ""
    click.echo(f"{len(found)} snapshot{'s' * (len(found) != 1)}, {size(total)}{shared}")


def _is_asked_for(snapshot: Snapshot, reasons: tuple[str, ...], begin: float | None) -> bool:
    kind = not reasons or any(r in snapshot.kinds or snapshot.reason.startswith(r) for r in reasons)
    return kind and (begin is None or snapshot.time >= begin)


def _plain(snapshot: Snapshot, pins: set[str]) -> dict[str, Any]:
    return {
        "name": snapshot.name, "path": str(snapshot.path), "time": snapshot.time, "iso": iso(snapshot.time),
        "reason": snapshot.reason, "kinds": snapshot.kinds, "step": snapshot.step, "bytes": snapshot.bytes,
        "checkpoint": snapshot.checkpoint, "pinned": snapshot.name in pins,
    }  # fmt: skip
