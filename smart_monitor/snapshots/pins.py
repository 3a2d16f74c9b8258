"""Pins: snapshots that a person wants kept for ever. They stand in a file of ours, for a snapshot never changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from smart_monitor.model import SCHEMA, to_json
from smart_monitor.snapshots.folders import make_private, write_private
from smart_monitor.snapshots.lock import store_lock

NAME = "pins.json"
MAX_BYTES = 16 * 2**20


class PinsUnusable(ValueError):
    """The pins can't be read, so nobody knows what is pinned; the text is one sentence."""


def pinned(out: Path) -> dict[str, float]:
    """Name -> since when (unix seconds). Raises PinsUnusable."""
    path = out / ".smart_monitor" / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_BYTES))
        if document["schema"] != SCHEMA:
            raise ValueError(f"it is of schema {document['schema']!r}")
        return {str(name): float(since) for name, since in document["pins"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PinsUnusable(f"{path} can't be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PinsUnusable(f"{path} can't be used ({error})") from error


def pin(out: Path, names: Collection[str]) -> list[str]:
    """Pin snapshots; those that were not yet. Raises PinsUnusable or OSError."""
    return _change(out, add=names)


def unpin(out: Path, names: Collection[str]) -> list[str]:
    """Take pins away; the names that had one. Raises PinsUnusable or OSError."""
    return _change(out, take=names)


def _change(out: Path, add: Collection[str] = (), take: Collection[str] = ()) -> list[str]:
    folder = str((out / ".smart_monitor").absolute())
    make_private(folder)
    with store_lock(folder):
        before = pinned(out)
        after = before | {name: time.time() for name in add if name not in before}
        # A pin of what was deleted by hand must not wait for another snapshot of that name.
        after = {n: t for n, t in after.items() if n not in take and os.path.isdir(out / "snapshots" / n)}
        if after != before:
            write_private(Path(folder) / NAME, to_json({"schema": SCHEMA, "pins": after}, indent=1).encode() + b"\n")
    return [n for n in add if n not in before] + [n for n in take if n in before]
