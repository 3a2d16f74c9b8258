"""Options that several commands share, and how flags become a layer of settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from smart_monitor.config import ConfigError, Settings

F = TypeVar("F", bound=Callable[..., Any])

THRESHOLDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--preset", {"type": click.Choice(["sensitive", "default", "quiet"]), "help": "A row of thresholds.  [default: default]"}),
    ("--loss-spike-threshold", {"type": float, "help": "Share above the recent mean that is a spike.  [default: 0.3]"}),
    ("--accuracy-drop-threshold", {"type": float, "help": "Points below the recent mean that are a drop.  [default: 10]"}),
    ("--loss-window", {"type": int, "help": "Values looked back on.  [default: 10]"}),
    ("--min-steps-between-saves", {"type": int, "help": "Steps between two snapshots of one rule.  [default: 500]"}),
    (
        "--config",
        {
            "type": click.Path(exists=True, dir_okay=False, path_type=Path),
            "help": "A TOML file of settings.  [default: smart_monitor.toml in the run]",
        },
    ),
)


def base_dir(function: F) -> F:
    return click.option(
        "--base-dir", type=click.Path(file_okay=False, path_type=Path), default=Path(), show_default=False,
        help="The run's directory.  [default: the current directory]",
    )(function)  # fmt: skip


def base_dirs(function: F) -> F:
    return click.option(
        "--base-dir", "bases", type=click.Path(file_okay=False, path_type=Path), multiple=True,
        help="A run's directory; repeatable.  [default: the current directory]",
    )(runs_named(function))  # fmt: skip


def runs_named(function: F) -> F:
    return click.option(
        "--runs", "patterns", multiple=True, metavar="GLOB",
        help="The directories a pattern names, in quotes: 'runs/*'; repeatable.",
    )(function)  # fmt: skip


def out_dir(function: F) -> F:
    return click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path), default=None,
        help="Where logs and snapshots lie, if not in the run's directory.",
    )(function)  # fmt: skip


def require_ours(base: Path, out: Path | None) -> None:
    """Raises UsageError if `--out` lies in a directory that is the trainer's."""
    from smart_monitor.daemon.place import trainers_own
    from smart_monitor.snapshots.names import shown

    if out is not None and (theirs := trainers_own(base, out)):
        where = shown(str(theirs))
        raise click.UsageError(f"--out lies in {where}: a trainer rotates, uploads and deletes what lies in its directory.")


def as_json(function: F) -> F:
    return click.option("--json", "json_", is_flag=True, help="One JSON document, for programs.")(function)


def thresholds(function: F) -> F:
    for name, options in reversed(THRESHOLDS):
        function = click.option(name, default=None, **options)(function)
    return function


def several(bases: tuple[Path, ...], patterns: tuple[str, ...]) -> list[Path]:
    """The runs that --base-dir and --runs name together; a UsageError if that is none."""
    from smart_monitor.daemon.named import named

    found = [*bases, *(base for pattern in patterns for base in named(pattern).bases)]
    if not found and patterns:
        raise click.UsageError("--runs names no directory.")
    return list(dict.fromkeys(base.absolute() for base in found or [Path()]))


def settings_of(base: Path | None, config: Path | None, flags: Mapping[str, Any]) -> tuple[Settings, dict[str, str]]:
    """Settings from flags (those not None), environment and files; a UsageError for what can't be used."""
    from smart_monitor.configfile import load  # with every rule: `status` needs none of them

    try:
        return load(base, {k: v for k, v in flags.items() if v is not None}, config, os.environ)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
