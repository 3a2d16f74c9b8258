"""A progress bar for work that turns out to take longer than a second; nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

AFTER = 1.0
"""Seconds before the bar appears."""


class Progress:
    """`with Progress("Verifying", bytes) as progress: progress.passed(n)`. On stderr, and only on a terminal."""

    def __init__(self, label: str, total: int, *, quiet: bool = False) -> None:
        self._label, self._total = label, max(1, total)
        self._wanted = sys.stderr.isatty() and not quiet
        self._began = time.monotonic()
        self._done = 0
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def passed(self, amount: int) -> None:
        """So many more bytes are done."""
        self.reached(self._done + amount, self._total)

    def reached(self, done: int, total: int) -> None:
        """So many bytes of so many are done."""
        self._total = max(1, total)
        self._done = min(self._total, done)
        if not self._wanted:
            return
        if self._bar is None and time.monotonic() - self._began >= AFTER:
            self._bar = click.progressbar(length=self._total, label=self._label, file=sys.stderr)
            self._bar.__enter__()
        if self._bar is not None:
            self._bar.update(self._done - self._bar.pos)
