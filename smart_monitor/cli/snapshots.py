"""`smart-monitor snapshots`: what was kept."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir, size
from smart_monitor.snapshots.listing import Snapshot, directories, find, list_snapshots, read_metadata


@click.group()
def command() -> None:
    """List, show and verify the snapshots of a run.

    \b
    Example:
      smart-monitor snapshots list --base-dir runs/llama-7b
      smart-monitor snapshots verify --base-dir runs/llama-7b
    """


def _out(base: Path, out: Path | None) -> Path:
    from smart_monitor.daemon.place import find_out

    return out or find_out(base.absolute())


def _chosen(base: Path, out: Path | None, names: tuple[str, ...]) -> list[Snapshot]:
    place = _out(base, out)
    try:
        return [find(place, n) for n in names] if names else list_snapshots(place)
    except LookupError as error:
        damaged = [d.name for d in directories(place) if any(d.name.startswith(n) for n in names)]
        hint = f"; {damaged[0]} is damaged, `snapshots verify` says how" if len(damaged) == 1 else ""
        raise click.UsageError(f"{error.args[0]}{hint}") from error


@command.command("list")
@base_dir
@out_dir
@as_json
def list_(base_dir: Path, out: Path | None, json_: bool) -> None:
    """All snapshots, the oldest first.

    \b
    Example:
      smart-monitor snapshots list --base-dir runs/llama-7b --json
    """
    found = _chosen(base_dir, out, ())
    if json_:
        click.echo(json.dumps([_plain(s) for s in found], indent=2))
        return
    if not found:
        click.echo(f"No snapshots in {_out(base_dir, out) / 'snapshots'}.")
        return
    click.echo(f"{'TIME':<19}  {'STEP':>9}  {'SIZE':>10}  {'CHECKPOINT':<20}  NAME")
    for s in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(s.time))
        click.echo(f"{when}  {'-' if s.step is None else s.step:>9}  {size(s.bytes):>10}  {s.checkpoint or '-':<20}  {s.name}")


@command.command()
@click.argument("name")
@base_dir
@out_dir
@as_json
def show(name: str, base_dir: Path, out: Path | None, json_: bool) -> None:
    """One snapshot: why it was kept, what lies in it, where to resume. NAME may be any unique beginning.

    \b
    Example:
      smart-monitor snapshots show anomaly_20251112_143022 --base-dir runs/llama-7b
    """
    [snapshot] = _chosen(base_dir, out, (name,))
    document = read_metadata(snapshot.path)
    if json_:
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"{snapshot.path}")
    for key in (
        "reason",
        "time",
        "step",
        "onset_step",
        "loss",
        "accuracy",
        "learning_rate",
        "best_loss",
        "best_loss_step",
        "rollback",
    ):
        if document.get(key) is not None:
            click.echo(f"  {key:<15} {_words(document[key])}")
    for finding in document.get("findings", []):
        click.echo(f"  finding         {finding.get('severity')}: {finding.get('message')}")
    for missing in document.get("missing", []):
        click.echo(f"  missing         {missing.get('path') or missing.get('what')}: {missing.get('why')}")
    for file in document.get("files", []):
        click.echo(f"  {size(file['bytes']):>14}  {file['path']}")


@command.command()
@click.argument("names", nargs=-1)
@base_dir
@out_dir
@as_json
def verify(names: tuple[str, ...], base_dir: Path, out: Path | None, json_: bool) -> None:
    """Read every byte again and compare with the digests taken while copying. Exits 1 if anything differs.

    \b
    Example:
      smart-monitor snapshots verify --base-dir runs/llama-7b
    """
    from smart_monitor.snapshots.verify import verify as check

    found = directories(_out(base_dir, out))
    if names:
        # A damaged snapshot must be found by its name as well, which its metadata can't vouch for.
        unknown = [n for n in names if not any(d.name.startswith(n) for d in found)]
        if unknown:
            raise click.UsageError(f"No snapshot is called {unknown[0]!r}.")
        found = [
            d for d in found if d.name in names or any(d.name.startswith(n) and n not in {f.name for f in found} for n in names)
        ]
    report: dict[str, list[dict[str, str]]] = {}
    progress = sys.stderr.isatty() and not json_
    for number, snapshot in enumerate(found, 1):
        if progress:
            click.echo(f"\r[{number}/{len(found)}] {snapshot.name}\033[K", nl=False, err=True)
        report[snapshot.name] = [{"path": p.path, "what": p.what} for p in check(snapshot)]
    if progress:
        click.echo("\r\033[K", nl=False, err=True)
    if json_:
        click.echo(json.dumps(report, indent=2))
    else:
        for name, problems in report.items():
            click.echo(f"{'BAD' if problems else 'ok ':<3}  {name}")
            for problem in problems:
                click.echo(f"     {problem['path']}: {problem['what']}")
        click.echo(f"{len(report)} snapshot{'s' * (len(report) != 1)}, {sum(map(bool, report.values()))} bad")
    sys.exit(1 if any(report.values()) else 0)


def _plain(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name, "path": str(snapshot.path), "time": snapshot.time, "reason": snapshot.reason,
        "step": snapshot.step, "bytes": snapshot.bytes, "checkpoint": snapshot.checkpoint,
    }  # fmt: skip


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in value.items())
    return str(value)
