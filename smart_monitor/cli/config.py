"""`smart-monitor config`: the settings in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import as_json, base_dir, settings_of, thresholds
from smart_monitor.config import KEYS
from smart_monitor.configfile import toml


@click.group()
def command() -> None:
    """The settings of a run.

    \b
    Example:
      smart-monitor config show --base-dir runs/llama-7b
    """


@command.command()
@base_dir
@thresholds
@as_json
def show(base_dir: Path, config: Path | None, json_: bool, **flags: Any) -> None:
    """Every setting, its value and where it comes from (flag > environment > --config > the run's file > default).

    \b
    Example:
      SMART_MONITOR_LOSS_WINDOW=20 smart-monitor config show
    """
    settings, origin = settings_of(base_dir, config, flags)
    values = {key: getattr(settings, key) for key in KEYS}
    if json_:
        click.echo(json.dumps({key: {"value": value, "from": origin[key]} for key, value in values.items()}, indent=2))
        return
    width, source = max(map(len, values)), max(map(len, origin.values()))
    for key, value in values.items():
        click.echo(f"{key:<{width}}  {toml(value):<10}  {origin[key]:<{source}}  {KEYS[key].metadata['why']}")
    for phase in settings.phases:
        click.echo(f"until step {phase.until_step}: " + ", ".join(f"{k} = {v}" for k, v in phase.overrides.items()))
