"""The log that people tail and grep: `[2025-11-12 14:30:22] [INFO] message`, in the file of the line's own date."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from smart_monitor.linefile import LineFile
from smart_monitor.model import Record

BUSY = 50
"""Steps a second above which they are logged as ranges."""
LIMIT = 2000
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), "\ufffd")


class Log:
    """The log of one run. Until it has a directory, and for all but step lines, it also speaks on stderr."""

    def __init__(self, echo: TextIO | None = sys.stderr, clock: Callable[[], float] = time.time) -> None:
        self._echo, self._clock = echo, clock
        self._file: LineFile | None = None
        self._logger = structlog.wrap_logger(self, processors=[_one_line, self._render], wrapper_class=structlog.BoundLogger)
        self._second = 0
        self._in_second = 0
        self._held: list[int] = []

    def open(self, directory: Path) -> None:
        self._file = LineFile(directory, 0o644)

    def close(self) -> None:
        if self._file is not None:
            self.flush_steps()
            self._file.close()
            self._file = None

    def info(self, message: str) -> None:
        self._logger.msg(message, level="INFO")

    def warning(self, message: str) -> None:
        self._logger.msg(message, level="WARNING")

    def error(self, message: str) -> None:
        self._logger.msg(message, level="ERROR")

    def alert(self, message: str) -> None:
        self._logger.msg(message, level="ALERT")

    def step(self, record: Record, step: int | None, values: MutableMapping[str, float]) -> None:
        """One line for a step observed; a range once there are too many of them."""
        number = record.index if step is None else step
        second = int(self._clock())
        if second != self._second:
            self.flush_steps()
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > BUSY:
            self._held.append(number)
            return
        shown = [f"{name}={values[key]:{form}}" for name, key, form in _SHOWN if key in values]
        self._logger.msg(" ".join([f"Monitoring: Step {number}", *shown]), level="INFO", quiet=True)

    def range(self, steps: list[int]) -> None:
        """One line for many steps observed at once."""
        if steps:
            self._logger.msg(f"Monitoring: Step {steps[0]}–{steps[-1]} ({len(steps)} records)", level="INFO", quiet=True)

    def flush_steps(self) -> None:
        held, self._held = self._held, []
        self.range(held)

    def _render(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, bool], dict[str, Any]]:
        local = time.localtime(self._clock())
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", local)
        line = f"[{stamp}] [{event['level']}] {event['event']}"
        if self._file is not None:
            self._file.append(time.strftime("smart_monitor_%Y%m%d.log", local), line)
        return (line, event.get("quiet", False)), {}

    def msg(self, line: str, quiet: bool) -> None:
        """structlog's sink: what is not already in the file, or worth a person's eye, goes to stderr."""
        if self._echo is not None and not quiet:
            try:
                print(line, file=self._echo, flush=True)
            except (OSError, ValueError):
                self._echo = None  # the terminal is gone; the file remains


_SHOWN = (
    ("loss", "loss", ".4g"),
    ("eval_loss", "eval_loss", ".4g"),
    ("accuracy", "accuracy", ".1f"),
    ("lr", "learning_rate", ".4g"),
)


def _one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Values from files can't forge a line, nor fill the disk with one."""
    event["event"] = str(event["event"]).translate(_CONTROLS)[:LIMIT]
    return event
