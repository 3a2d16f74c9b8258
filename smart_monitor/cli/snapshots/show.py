"""`smart-monitor snapshots show`: everything about one snapshot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir
from smart_monitor.cli.snapshots._named import directory_of, moment, place_of
from smart_monitor.snapshots.listing import read_metadata
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pins import PinsUnusable, pinned
from smart_monitor.units import size

_FIELDS = (
    "reason", "time", "note", "step", "onset_step", "loss", "accuracy", "learning_rate", "best_loss", "best_loss_step",
)  # fmt: skip


@click.command()
@click.argument("name")
@base_dir
@out_dir
@as_json
def command(name: str, base_dir: Path, out: Path | None, json_: bool) -> None:
    """One snapshot: why it was kept, what lies in it, where to resume. NAME may be any unique beginning.

    \b
    Example:
      smart-monitor snapshots show anomaly_20251112_143022 --base-dir runs/llama-7b
    """
    place = place_of(base_dir, out)
    path = directory_of(place, name)
    document = read_metadata(path)
    if json_:
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(path)
    for line in _lines(document):
        click.echo(f"  {line}")
    try:
        since = pinned(place).get(path.name)
    except PinsUnusable as error:
        click.echo(f"Warning: {error}", err=True)
    else:
        if since is not None:
            click.echo(f"  {'pinned':<15} since {moment(since)}")
    for file in document.get("files", []):
        click.echo(f"  {size(file['bytes']):>14}  {shown(str(file['path']))}")


def _lines(document: dict[str, Any]) -> list[str]:
    found = [f"{key:<15} {_words(document[key])}" for key in _FIELDS if document.get(key) is not None]
    for role in ("checkpoint", "last_good"):
        if isinstance(kept := document.get(role), dict):
            step = "" if kept.get("step") is None else f", step {kept['step']}"
            before = kept.get("steps_before_onset")
            back = f", {before} steps before the onset" if before is not None else ""
            found.append(f"{role:<15} {_words(kept.get('name'))}{_words(step)}{_words(back)} (from {_words(kept.get('source'))})")
    if isinstance(note := document.get("rollback"), dict):
        found.append(f"{'rollback':<15} {_words(note.get('text'))}")
    found += [f"{'finding':<15} {_words(f.get('severity'))}: {_words(f.get('message'))}" for f in document.get("findings") or ()]
    found += [
        f"{'missing':<15} {_words(m.get('path') or m.get('what'))}: {_words(m.get('why'))}" for m in document.get("missing") or ()
    ]
    return found


def _words(value: Any) -> str:
    return shown(f"{value:.6g}" if isinstance(value, float) else str(value))
