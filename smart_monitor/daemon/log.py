"""The log that people tail and grep: `[2025-11-12 14:30:22] [INFO] message`, in the file of the line's own date."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TextIO

from smart_monitor.linefile import LineFile
from smart_monitor.model import Record

# structlog takes rich, if it finds it, for tracebacks on terminals: 8 MB that a daemon never uses.
_spared = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_spared))  # type: ignore[arg-type]  # None is how the import system is told "not there"
try:
    import structlog
finally:
    for name in _spared:
        del sys.modules[name]

BUSY = 50
"""Steps a second above which they are logged as ranges."""
_STEP = re.compile(rb"^\[[^]]*\] \[INFO\] Monitoring: Step (?:\d+\xe2\x80\x93)?(\d+)", re.MULTILINE)
LIMIT = 2000
TAIL = 1 << 18
"""Bytes at the end of the log in which a line that a crash may have cut off is looked for."""
_CONTROLS = dict.fromkeys(
    (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029), "\ufffd"
)


class Log:
    """The log of one run. Until it has a directory, and for all but step lines, it also speaks on stderr."""

    def __init__(self, echo: TextIO | None = sys.stderr, clock: Callable[[], float] = time.time) -> None:
        self._echo, self._clock = echo, clock
        self._file: LineFile | None = None
        self._directory = Path()
        self._logger = structlog.wrap_logger(
            self, processors=[_one_line, self._render], wrapper_class=structlog.BoundLogger
        ).bind()
        self._second = 0
        self._in_second = 0
        self._held: list[int] = []
        self._stamped = (0, "", "")

    def open(self, directory: Path) -> None:
        self._directory = directory
        self._file = LineFile(directory, 0o644)

    def close(self) -> None:
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None

    def rest(self) -> None:
        """Give the descriptor back until the next line."""
        if self._file is not None:
            self._file.rest()

    def info(self, message: str) -> None:
        self.say("INFO", message)

    def warning(self, message: str) -> None:
        self.say("WARNING", message)

    def error(self, message: str) -> None:
        self.say("ERROR", message)

    def alert(self, message: str) -> None:
        self.say("ALERT", message)

    def say(self, level: str, message: str) -> None:
        """A line of that level, in the file and on stderr. Steps held back come before it, so that order is kept."""
        self._ranges()
        self._logger.msg(message, level=level)

    def step(self, record: Record, step: int | None, values: Mapping[str, float]) -> None:
        """One line for a step observed; a range once there are too many of them."""
        number = record.index if step is None else step
        second = int(self._clock())
        if second != self._second:
            self._ranges()
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > BUSY:
            self._held.append(number)
            return
        shown = [f"rank={record.rank}"] if record.rank else []
        shown += [f"{name}={values[key]:{form}}" for name, key, form in _SHOWN if key in values]
        self._write("INFO", " ".join([f"Monitoring: Step {number}", *shown]))

    def range(self, first: int | None, last: int | None, count: int) -> None:
        """One line for many steps observed at once."""
        self._write("INFO", f"Monitoring: Step {first}–{last} ({count} records)")

    def flush(self) -> None:
        """Write the steps held back, and what the disk refused before."""
        self._ranges()
        if self._file is not None:
            self._file.flush()

    def holds(self, message: str) -> bool:
        """Does the end of the newest log hold a line with this text?"""
        wanted = _cleaned(message).encode("utf-8", "backslashreplace")
        return any(wanted in tail for tail in self._tails())

    def last_step(self) -> int | None:
        """The last step that the end of the newest log tells of."""
        for tail in self._tails():
            if found := _STEP.findall(tail):
                return int(found[-1])
        return None

    def _tails(self) -> Iterator[bytes]:
        """The ends of the newest logs, the newest first."""
        self._ranges()
        for path in sorted(self._directory.glob("smart_monitor_????????.log"))[:-3:-1]:
            try:
                with path.open("rb") as file:
                    file.seek(max(0, file.seek(0, 2) - TAIL))
                    yield file.read()
            except OSError:
                continue

    @property
    def waiting(self) -> bool:
        """Are steps held back for a range line?"""
        return bool(self._held)

    @property
    def trouble(self) -> str:
        """Why lines can't be written; empty when all are on the disk."""
        return self._file.trouble if self._file is not None else ""

    @property
    def lost(self) -> int:
        return self._file.lost if self._file is not None else 0

    def _ranges(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self.range(held[0], held[-1], len(held))

    def _render(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
        return (self._write(event["level"], event["event"]),), {}

    def _write(self, level: str, text: str) -> str:
        """The line, which now stands in the file. Of steps directly: they are many, and numbers need no cleaning."""
        now = self._clock()
        if int(now) != self._stamped[0]:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
            self._stamped = int(now), stamp, f"smart_monitor_{stamp[:10].replace('-', '')}.log"
        _, stamp, name = self._stamped
        line = f"[{stamp}] [{level}] {text}"
        if self._file is not None:
            self._file.append(name, line)
        return line

    def msg(self, line: str) -> None:
        """structlog's sink: what is worth a person's eye goes to stderr as well."""
        if self._echo is not None:
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
    event["event"] = _cleaned(str(event["event"]))
    return event


def _cleaned(message: str) -> str:
    """Values from files can't forge a line, nor fill the disk with one."""
    return message[:LIMIT].translate(_CONTROLS)
