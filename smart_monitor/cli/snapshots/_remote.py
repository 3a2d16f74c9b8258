"""What `push` and `fetch` share: which remote, and which folder of it."""

from __future__ import annotations

from pathlib import Path

import click

from smart_monitor.cli._options import settings_of
from smart_monitor.config import Settings
from smart_monitor.names import clean
from smart_monitor.snapshots.remote.address import lacking


def remote_of(base: Path, config: Path | None, url: str | None) -> Settings:
    """The settings with `url`, or else those in force. A UsageError if there is no remote, or not what it needs."""
    settings, _ = settings_of(base, config, {"remote": url})
    if not settings.remote:
        raise click.UsageError(
            "No remote is set: give its address, or set `remote` in smart_monitor.toml or SMART_MONITOR_REMOTE."
        )
    if why := lacking(settings.remote):
        raise click.ClickException(why)
    return settings


def run_of(base: Path) -> str:
    """The name under which the monitor knows the run."""
    return clean(base.resolve().name) or "run"
