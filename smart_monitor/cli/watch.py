"""`smart-monitor watch`: the daemon."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from smart_monitor.cli._options import out_dir, require_ours, runs_named, settings_of, thresholds
from smart_monitor.config import ConfigError, Settings


@click.command()
@click.option(
    "--base-dir",
    "bases",
    type=Path,  # click's own type looks at it, which on a dead mount never ends
    metavar="DIRECTORY",
    multiple=True,
    help="A run's directory; repeatable.  [default: .]",
)
@runs_named
@out_dir
@thresholds
@click.option(
    "--source", default=None, metavar="NAME", help="Read this format, or this file of the run's directory, and nothing else."
)
@click.option(
    "--poll-interval", type=float, default=None, help="Seconds between scans; metrics are sampled at 0.5 s.  [default: 10]"
)
@click.option("--pid", type=click.IntRange(min=1), default=None, help="The trainer's process.  [default: found by itself]")
@click.option("--once", is_flag=True, help="Judge what stands there now, keep what is to be kept, and end.")
@click.option("--dry-run", is_flag=True, help="Judge and tell, but keep and write nothing.")
@click.option("--exit-when-done", is_flag=True, help="End when every run says that it completed or crashed.")
def command(
    bases: tuple[Path, ...],
    patterns: tuple[str, ...],
    out: Path | None,
    config: Path | None,
    once: bool,
    dry_run: bool,
    exit_when_done: bool,
    **flags: Any,
) -> None:
    """Watch training runs until told to stop (SIGTERM, SIGINT). SIGHUP reads the configuration again.
    Exits 3 if another monitor watches the run already.

    \b
    Reads     what it finds: BASE/status/training_status.json, JSON lines, TensorBoard events, CSV, offline wandb,
              trainer_state.json, MLflow files, text logs; --source names one of them
    Keeps     BASE/snapshots/anomaly_<time>_<reason>/
    Logs      BASE/logs/smart_monitor_<date>.log and BASE/logs/events.jsonl

    \b
    Example:
      nohup smart-monitor watch --base-dir runs/llama-7b --loss-spike-threshold 0.2 &
      nohup smart-monitor watch --runs 'runs/*' &
    """
    from smart_monitor.daemon.loop import Daemon
    from smart_monitor.daemon.named import named
    from smart_monitor.discovery import unknown
    from smart_monitor.following import options_of

    if once and patterns:
        bases, patterns = (*bases, *(base for pattern in patterns for base in named(pattern).bases)), ()
        if not bases:
            raise click.UsageError("--runs names no directory.")
    unique = list(dict.fromkeys(b.absolute() for b in bases or (() if patterns else (Path(),))))
    several = len(unique) > 1 or bool(patterns)
    if flags["pid"] and several:
        raise click.UsageError("--pid is for one run; with several each run's process is found by itself.")
    if out is not None and several:
        raise click.UsageError("--out is for one run; give each run its own monitor, or leave --out away.")
    usual = settings_of(None, config, flags)[0]

    def check() -> None:
        for base in unique:
            if base.exists() and not base.is_dir():
                raise click.UsageError(f"{base} is a file; --base-dir is a run's directory.")
            require_ours(base, out)
            settings, _ = settings_of(base, config, flags)
            if why := unknown(base, settings.source, options_of(settings)):
                raise click.UsageError(f"--source: {why}")

    in_time(check)  # wrong settings end it here, with a sentence

    def load(base: Path) -> Settings:
        try:
            return settings_of(base, config, flags)[0]
        except click.UsageError as error:
            raise ConfigError(error.message) from error

    daemon = Daemon(
        unique, load, patterns=patterns, settings=usual, out=out.absolute() if out else None, once=once, dry=dry_run,
        exit_when_done=exit_when_done,
    )  # fmt: skip
    sys.exit(daemon.run())


def in_time(check: Callable[[], None], patience: float = 10.0) -> None:
    """Do it; what it raises is raised here. A mount that hangs holds it up for `patience` seconds and no longer."""
    raised: list[Exception] = []

    def act() -> None:
        try:
            check()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(patience)
    if raised:
        raise raised[0]
