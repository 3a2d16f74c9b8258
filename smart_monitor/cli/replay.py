"""`smart-monitor replay`: the live engine over recorded runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import settings_of, thresholds
from smart_monitor.config import Settings


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@thresholds
@click.option(
    "--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True, help="For people or programs."
)
def command(paths: tuple[Path, ...], form: str, config: Path | None, **flags: Any) -> None:
    """Judge recorded runs exactly as the live monitor would, and keep nothing.

    PATH is a JSONL file, a status file, or a run's directory: then its journal is replayed, else what its
    trainer wrote. Exits 1 if there is any warning or critical finding.

    \b
    Example:
      smart-monitor replay runs/llama-7b --format jsonl | jq .reason
    """
    from smart_monitor.replay import ReplayError

    trouble = False
    for path in paths:
        settings, _ = settings_of(path if path.is_dir() else None, config, flags)
        try:
            trouble |= _one(path, settings, form)
        except ReplayError as error:
            raise click.UsageError(str(error)) from error
    sys.exit(1 if trouble else 0)


def _one(path: Path, settings: Settings, form: str) -> bool:
    from smart_monitor.model import Finding, finding_json, to_json
    from smart_monitor.replay import replay

    records, found, trouble = 0, 0, False
    write = sys.stdout.write
    for record, outputs in replay(path, settings):
        records += record.kind == "record"
        for output in outputs:
            if not isinstance(output, Finding):
                continue
            found += 1
            trouble |= output.severity != "info"
            if form == "jsonl":
                write(to_json(finding_json(output), ensure_ascii=False) + "\n")
            else:
                write(f"{output.severity:<8} record {output.record:<6} {output.reason}: {output.message}\n")
    if form == "text":
        write(f"{path}: {records} records, {found} findings\n")
    return trouble
