"""The command line: one file a command; each parses, calls one thing of the library, and prints.

Commands are imported when they are asked for: the daemon must not carry the memory of the others.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys

import click

from smart_monitor import __version__

COMMANDS = {
    "watch": "Watch a training run and keep what matters (the default).",
    "status": "Is a run watched, what is seen, what is open?",
    "stop": "End the monitor of a run, letting a copy finish.",
    "replay": "Judge a recorded run by the live engine.",
    "tune": "Which thresholds would have served your past runs?",
    "rules": "The rules: what each watches and what to do.",
    "snapshot": "Keep the newest checkpoint now, by hand.",
    "snapshots": "List, verify, compare, restore, pin and prune what was kept.",
    "doctor": "Why is nothing detected? What is read, what is missing.",
    "config": "Show the settings in force and where each comes from.",
    "init": "Write a commented smart_monitor.toml into a run.",
    "demo": "A real small training that goes wrong, watched.",
}


class Commands(click.Group):
    """Loads commands lazily; arguments without a command are `watch`'s."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"smart_monitor.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Not while a shell completes: what stands there is only a beginning.
        ours = args and (not args[0].startswith("-") or args[0] in ("--help", "-h", "--version"))
        if not ours and not ctx.resilient_parsing:
            args = ["watch", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="smart-monitor")
def cli() -> None:
    """The flight recorder for training runs.

    Runs beside a training job, as its own process: reads what the trainer writes, judges every step, and
    keeps the checkpoint that matters before the trainer deletes it. Without a command: watch.

    \b
    Example:
      nohup smart-monitor --base-dir runs/llama-7b &
      smart-monitor status --base-dir runs/llama-7b

    \b
    Exit codes: 0 fine, 1 trouble found, 2 wrong use, 3 another monitor watches this run.
    """


def main() -> None:
    """Entry point of `smart-monitor` and `python -m smart_monitor`."""
    if not sys.platform.startswith("linux"):
        sys.exit("Smart Monitor needs Linux: it relies on flock, inotify and /proc.")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text, and terminals may be ASCII
    try:
        cli(prog_name="smart-monitor")
    except BrokenPipeError:  # `smart-monitor replay … | head`
        _hush()
        sys.exit(141)
    except OSError as error:
        if (sentence := _of_the_user(error)) is None:
            raise
        _hush()
        click.echo(f"Error: {sentence}", err=True)
        sys.exit(2)


def _hush() -> None:
    """What is still to be written to stdout goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_the_user(error: OSError) -> str | None:
    """What a user did that no command can know of, as a sentence; None if it is something else."""
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "what it says can't be written: the disk that it goes to is full."
    try:
        os.getcwd()
    except FileNotFoundError:
        if error.errno != errno.ENOENT:
            return None
        return 'the current directory is not there any more; if another has taken its place, `cd "$PWD"` goes to it.'
    return None
