"""Tidying: retention in a process of its own, one run after another, so that unlinking a terabyte holds nobody up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smart_monitor.snapshots.process import ROOT, handed_over
from smart_monitor.units import size

if TYPE_CHECKING:
    from smart_monitor.daemon.lane import Lane
    from smart_monitor.daemon.run import Run

START = "import sys; sys.path.append(sys.argv[1]); from smart_monitor.snapshots.prune import main; sys.exit(main())"
GIB = 2**30
LOW = 2
"""The disk is low below so many times `min_free_gb`, as the rule disk_low has it."""
AGAIN = 600.0
"""Seconds after which a disk that is still low makes us look again."""


STEP = 3600.0
"""Seconds by which the clock may get ahead of the time that passed before it was stepped, and not merely corrected."""
BELIEVED = 86400.0
"""Seconds for which a step forward must have stood before anything grows older by it."""


class Calendar:
    """Unix time by a clock that may be stepped. A wrong date for a minute must not make every snapshot too old to be kept."""

    def __init__(self) -> None:
        self._wall, self._passed = time.time(), passed()
        self._stepped: float | None = None

    def now(self) -> float:
        """The time, without a step forward that has not stood for long."""
        wall, elapsed = time.time(), passed()
        expected = self._wall + elapsed - self._passed
        if wall - expected > STEP:
            self._stepped = elapsed if self._stepped is None else self._stepped
            if elapsed - self._stepped < BELIEVED:
                return expected
        self._wall, self._passed, self._stepped = wall, elapsed, None
        return wall


def passed() -> float:
    """Seconds that nobody can step; they pass in a suspended machine as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def has_something(snapshots: Path) -> bool:
    """Does anything stand there, snapshots or what one was dropped as? Else no process is worth its start."""
    try:
        with os.scandir(snapshots) as entries:
            return next(entries, None) is not None
    except OSError:
        return True  # its process says what is wrong


class Tidying:
    """Who is to be tidied, and the one process under way. Everything here happens on the daemon's main thread."""

    def __init__(self) -> None:
        self._due: dict[str, Lane] = {}
        self._asked: dict[str, float] = {}
        self._lane: Lane | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._told: set[str] = set()
        self._calendar = Calendar()

    @property
    def busy(self) -> bool:
        return self._process is not None or bool(self._due)

    def ask(self, lane: Lane) -> None:
        """Tidy this run when it is its turn, unless its user wants to do that by hand."""
        run = lane.run
        if run is not None and run.opened and not run.dry and run.settings.prune:
            self._due[str(run.place.out)] = lane
            self._asked[str(run.place.out)] = time.monotonic()

    def heed(self, lane: Lane, figures: Mapping[str, float]) -> None:
        """Time has passed: tidy sooner if the disk is low, or was too full for a snapshot."""
        self._calendar.now()  # so that a step is noticed when it happens
        run = lane.run
        if run is None:
            return
        free, out = figures.get("disk_free_bytes"), str(run.place.out)
        low = free is not None and free < LOW * run.settings.min_free_gb * GIB
        if (low or any(i.tries for i in run.keeper.store.open)) and time.monotonic() - self._asked.get(out, -AGAIN) >= AGAIN:
            self.ask(lane)

    def attend(self) -> None:
        """Hear what the process said, start the next one. Never raises."""
        if self._process is not None:
            ended = self._process.poll() is not None
            self._hear()
            if not ended:
                return
            self._end()
        while self._due and self._process is None:
            out, lane = next(iter(self._due.items()))
            del self._due[out]
            if lane.run is not None and lane.run.opened:
                self._start(lane, lane.run)

    def close(self) -> None:
        """The daemon ends: what the process is at stops by itself, at the next file, when it finds us gone."""
        self._due.clear()
        if self._process is not None:
            self._hear()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def _start(self, lane: Lane, run: Run) -> None:
        asked = {f.name: getattr(run.settings, f.name) for f in fields(run.settings) if f.metadata["group"] == "retention"}
        job = {"out": str(run.place.out.absolute()), "settings": asked, "parent": os.getpid(), "now": self._calendar.now()}
        try:
            with handed_over(job) as stdin:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, ROOT],
                    stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                )  # fmt: skip
        except OSError as error:
            self._complain(lane, f"can't be started ({error.strerror})")
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._lane, self._said = lane, b""

    def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            try:
                piece = os.read(self._process.stdout.fileno(), 65536)
            except OSError:  # nothing to be heard now
                return
            if not piece:
                return
            *lines, self._said = (self._said + piece).split(b"\n")
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        assert self._lane is not None
        try:
            message: dict[str, Any] = json.loads(line)
            if "trouble" in message:
                self._complain(self._lane, str(message["trouble"]))
            else:
                self._lane.say("INFO", f"Retention: dropped {message['name']} ({message['rule']}; {size(message['bytes'])})")
        except (ValueError, KeyError, TypeError):
            self._said = (self._said + b" " + line)[-300:]  # a traceback: kept for the reason of death

    def _end(self) -> None:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()
        code, self._process = self._process.returncode, None
        if code not in (0, 1) or self._said.strip():
            assert self._lane is not None
            self._complain(self._lane, f"its process died (status {code}): {self._said.decode('utf-8', 'replace').strip()}")

    def _complain(self, lane: Lane, what: str) -> None:
        """Once for each trouble: it will be met again every day."""
        key = f"{lane.base}: {what}"
        if key not in self._told:
            self._told.add(key)
            lane.say("WARNING", f"Retention: {what}")
