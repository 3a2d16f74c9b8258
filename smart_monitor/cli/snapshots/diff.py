"""`smart-monitor snapshots diff`: what differs between two snapshots."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli._progress import Progress
from smart_monitor.cli.snapshots._named import directory_of, place_of
from smart_monitor.snapshots.diff import Difference, File, diff
from smart_monitor.snapshots.names import shown
from smart_monitor.units import size

MOST = 20
"""Tensors of one file that are named on a terminal; --json names them all."""


@click.command()
@click.argument("a")
@click.argument("b")
@base_dir
@out_dir
@click.option("--values", is_flag=True, help="Read the bytes of tensors as well, and name those whose values differ.")
@as_json
def command(a: str, b: str, base_dir: Path, out: Path | None, values: bool, json_: bool) -> None:
    """What differs from snapshot A to B: metadata, settings, files and tensors. Exits 1 if anything does.

    Files are compared by their published digests and tensors by the headers of safetensors files, so that
    gigabytes are compared in no time; --values reads them, in pieces.

    \b
    Example:
      smart-monitor snapshots diff anomaly_20251112_143022 anomaly_20251112_150111
    """
    place = place_of(base_dir, out)
    left, right = directory_of(place, a), directory_of(place, b)
    total = sum(p.stat().st_size for d in (left, right) for p in d.rglob("*.safetensors")) if values else 0
    try:
        with Progress("Comparing", total, quiet=json_) as progress:
            found = diff(left, right, values=values, passed=progress.passed)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"they can't be compared: {error}") from error
    if json_:
        click.echo(json.dumps(_plain(left.name, right.name, found), indent=2))
    else:
        _print(left.name, right.name, found, values)
    sys.exit(1 if found else 0)


def _print(a: str, b: str, found: Difference, values: bool) -> None:
    click.echo(f"A  {a}\nB  {b}")
    width = max((len(f.name) for f in found.fields), default=0)
    for name, before, after in found.fields:
        click.echo(f"  {shown(name):<{width}}  {_word(before)} → {_word(after)}")
    for file in found.files:
        sizes = " → ".join(size(n) for n in (file.before, file.after) if n is not None)
        click.echo(f"  {file.what:<7}  {shown(file.path)}  ({sizes})")
        for line in _tensors(file, values):
            click.echo(f"           {line}")
    click.echo(f"Files: {len(found.files)} different, {found.same} the same")


def _tensors(file: File, values: bool) -> list[str]:
    if file.why:
        return [f"tensors can't be compared: {shown(file.why)}"]
    if not file.tensors and not file.same:
        return []
    lines = []
    for name, what, before, after in file.tensors[:MOST]:
        told = {"added": after, "removed": before, "changed": f"{before} → {after}", "values": f"{before}, other values"}
        lines.append(f"{shown(name)}: {'' if what in ('changed', 'values') else what + ' '}{shown(told[what])}")
    if len(file.tensors) > MOST:
        lines.append(f"… and {len(file.tensors) - MOST} more")
    alike = "equal" if values else "of the same type and shape (--values reads them)"
    lines.append(f"{file.same} {'tensor' if file.same == 1 else 'tensors'} {alike}")
    return lines


def _plain(a: str, b: str, found: Difference) -> dict[str, Any]:
    keys = ("name", "what", "before", "after")
    files = [asdict(f) | {"tensors": [dict(zip(keys, t, strict=True)) for t in f.tensors]} for f in found.files]
    return {
        "schema": 1, "a": a, "b": b, "different": bool(found), "same_files": found.same,
        "fields": [f._asdict() for f in found.fields], "files": files,
    }  # fmt: skip


def _word(value: Any) -> str:
    return "-" if value is None else shown(f"{value:.6g}" if isinstance(value, float) else str(value))
