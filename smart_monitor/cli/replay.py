"""`smart-monitor replay`: the live engine over recorded runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import settings_of, thresholds
from smart_monitor.config import Settings
from smart_monitor.model import Finding, Output, Record, finding_json, to_json


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@thresholds
@click.option(
    "--source", default="", metavar="NAME", help="Read this format, or this file of a run's directory, and nothing else."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True, help="For people or programs."
)
@click.option(
    "--explain", "step", type=int, metavar="STEP", help="Tell instead what every rule saw at this step, and why it spoke or not."
)
@click.option(
    "--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png",
    help='Also draw the run and what was found; needs matplotlib: pip install "smart-monitor[plot]".',
)  # fmt: skip
def command(
    paths: tuple[Path, ...], source: str, form: str, step: int | None, picture: Path | None, config: Path | None, **flags: Any
) -> None:
    """Judge recorded runs exactly as the live monitor would, and keep nothing.

    PATH is a file that a trainer wrote (JSON lines, CSV, trainer_state.json, TensorBoard events, offline wandb,
    MLflow, trackio, a text log, a status file), or a run's directory: then its journal is replayed, else what its
    trainer wrote. What is read is said on stderr. Exits 1 if there is any warning or critical finding.

    \b
    Example:
      smart-monitor replay runs/llama-7b --format jsonl | jq .reason
      smart-monitor replay out/checkpoint-500/trainer_state.json
      smart-monitor replay runs/llama-7b --source tensorboard
      smart-monitor replay runs/llama-7b --explain 17500
      smart-monitor replay runs/llama-7b --plot llama-7b.png
    """
    from smart_monitor.replay import ReplayError

    if picture is not None:
        _check_drawing(paths)
    trouble = False
    for path in paths:
        settings, _ = settings_of(path if path.is_dir() else None, config, flags)
        judged = _told(path, settings, form, source) if step is None else _explained(path, settings, form, step, source)
        try:
            trouble |= _folded(judged, picture)
        except ReplayError as error:
            raise click.UsageError(str(error)) from error
    sys.exit(1 if trouble else 0)


def _check_drawing(paths: tuple[Path, ...]) -> None:
    from smart_monitor.plotting import INSTALL, available

    if len(paths) > 1:
        raise click.UsageError("--plot draws one run: give one PATH.")
    if not available():
        raise click.UsageError(f"--plot needs matplotlib: {INSTALL}")


def _folded(judged: Iterator[tuple[Record, list[Output]]], picture: Path | None) -> bool:
    """Was there any trouble? Draws what went by if a picture is asked for."""
    trouble, film = False, None
    if picture is not None:
        from smart_monitor.plotting import Film

        film = Film()
    for record, outputs in judged:
        if film is not None:
            film.add(record, outputs)
        for output in outputs:
            trouble |= isinstance(output, Finding) and output.severity != "info"
    if film is not None and picture is not None:
        from smart_monitor.plotting import PlotError, draw

        try:
            draw(film, picture)
        except PlotError as error:
            raise click.UsageError(str(error)) from error
        click.echo(f"Drew {picture}.", err=True)
    return trouble


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _told(path: Path, settings: Settings, form: str, source: str) -> Iterator[tuple[Record, list[Output]]]:
    """What replay says of each record, after telling its findings."""
    from smart_monitor.replay import replay

    records, found = 0, 0
    write = sys.stdout.write
    for record, outputs in replay(path, settings, source, _say):
        records += record.kind == "record"
        for output in outputs:
            if not isinstance(output, Finding):
                continue
            found += 1
            if form == "jsonl":
                write(to_json(finding_json(output), ensure_ascii=False) + "\n")
            else:
                write(f"{output.severity:<8} record {output.record:<6} {output.reason}: {output.message}\n")
        yield record, outputs
    if form == "text":
        write(f"{path}: {records} records, {found} findings\n")


def _explained(path: Path, settings: Settings, form: str, step: int, source: str) -> Iterator[tuple[Record, list[Output]]]:
    """What replay says of each record, after telling what was seen at `step`."""
    from smart_monitor.explain import MOST, NoSuchStep, explain, explanation_json, text
    from smart_monitor.registry import rule_classes
    from smart_monitor.replay import read

    run, records = read(path, source, _say, settings.log_patterns)
    told = 0
    feed = explain(run, records, settings, rule_classes(), step)
    try:
        for record, outputs, seen in feed:
            if seen is not None:
                told += record.kind == "record"
                lines = [to_json(explanation_json(e), ensure_ascii=False) for e in seen.explanations]
                sys.stdout.writelines(f"{line}\n" for line in (lines if form == "jsonl" else text(seen)))
            yield record, outputs
    except NoSuchStep as error:
        raise click.UsageError(str(error)) from error
    if told == MOST and form == "text":
        sys.stdout.write(f"Only the first {MOST} records of this step are explained.\n")
