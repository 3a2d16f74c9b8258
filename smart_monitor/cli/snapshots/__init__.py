"""`smart-monitor snapshots`: what was kept. One command a file, loaded when it is asked for."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "list": "All snapshots, the oldest first.",
    "show": "One snapshot: why it was kept, what lies in it, where to resume.",
    "verify": "Read every byte again and compare digests.",
    "diff": "What differs between two: metadata, files, tensors.",
    "restore": "Write a checkpoint back to a directory that the trainer can resume from.",
    "pin": "Keep snapshots for ever.",
    "unpin": "Let the rules decide again about pinned snapshots.",
    "push": "Copy snapshots to the remote now, by hand.",
    "fetch": "Bring a snapshot back from the remote.",
    "prune": "Drop what the rules no longer keep, and say which rule it was.",
}


class Commands(click.Group):
    """Loads the commands of this package lazily."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # once loaded, `list` is a module of this package

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(cls=Commands)
def command() -> None:
    """Look at, check, compare, restore, pin and prune the snapshots of a run.

    All of them are safe beside a running monitor, and a snapshot may be named by any unique beginning.

    \b
    Example:
      smart-monitor snapshots list --base-dir runs/llama-7b
      smart-monitor snapshots verify --base-dir runs/llama-7b
    """
