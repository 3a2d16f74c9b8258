"""A small trainer and a real monitor process, for tests that watch the one by the other."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from smart_monitor.daemon.loop import Daemon
from smart_monitor.daemon.schedule import Schedule
from tests.command_line import command, environment
from tests.daemon.forked import Forked
from tests.waiting import PATIENCE, until

LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(INFO|WARNING|ERROR|ALERT)\] \S.*")


def listens(pid: int) -> bool:
    """Does the process catch SIGTERM?"""
    try:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


class Trainer:
    """Writes a status file as trainers do, and checkpoints that it rotates."""

    def __init__(self, base: Path, *, layout: bool = True) -> None:
        self.base, self.step = base, 0
        self.path = base / "status" / "training_status.json"
        if layout:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            (base / "current_model").mkdir(exist_ok=True)

    def write(self, loss: Any = 0.7, *, step: Any = None, in_place: bool = False, **more: Any) -> None:
        """One status, atomically unless `in_place`."""
        self.step = self.step + 1 if step is None else step
        self.raw(json.dumps({"current_step": self.step, "loss": loss, "status": "training"} | more).encode(), in_place=in_place)

    def raw(self, content: bytes, *, in_place: bool = False) -> None:
        target = self.path if in_place else self.path.with_name("next.tmp")
        target.write_bytes(content)
        if not in_place:
            os.replace(target, self.path)

    def train(self, count: int, pause: float = 0.0) -> None:
        """So many quiet steps, the noise of a real run in them."""
        for _ in range(count):
            self.write(round(0.7 + 0.01 * ((self.step * 7) % 5), 4))
            time.sleep(pause)

    def checkpoint(self, step: int, keep: int = 2, size: int = 4096) -> Path:
        """A safetensors checkpoint as the Hugging Face trainer writes it; older ones are deleted."""
        place = self.base / "current_model" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        (place / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes([step % 251]) * size)
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
        old = sorted((int(p.name.partition("-")[2]), p) for p in place.parent.glob("checkpoint-*"))
        for _, path in old[:-keep]:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        return place


class Monitor:
    """`with Monitor(base) as monitor:` a real monitor process beside BASE."""

    forked = True
    """Is it forked from a helper? Else it is started as a user starts it, which takes most of a second."""

    def __init__(
        self, *bases: Path, out: Path | None = None, arguments: tuple[str, ...] = (), settings: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.bases, self.out = bases, out or bases[0]
        self._settings, self._prefix = settings, prefix
        self.forked = self.forked and not prefix
        self._arguments = ["watch", *(word for base in bases for word in ("--base-dir", str(base)))]
        self._arguments += ["--out", str(out)] if out else []
        self._arguments += arguments
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._said = os.memfd_create("said")  # not a pipe, which would fill, and not a file of the run's

    def __enter__(self) -> Self:
        return self.start() if self._process is None or self._process.poll() is not None else self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        if self.forked:
            self._process = Forked(self._arguments, environment(self._settings), self._said)
        else:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "smart_monitor", *self._arguments], env=environment(self._settings),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said,
            )  # fmt: skip
        return self

    def watching(self) -> Self:
        """Wait until it has looked at the run for the first time."""
        until(lambda: self.process.poll() is not None or re.search(r"Reads |Nothing to read yet", self.text()), "the first look")
        assert self.process.poll() is None, self.said
        return self

    @property
    def process(self) -> subprocess.Popen[bytes] | Forked:
        assert self._process is not None
        return self._process

    @property
    def said(self) -> str:
        """What it wrote to stderr, in all its lives."""
        return os.pread(self._said, 1 << 20, 0).decode(errors="replace")

    def sees(self, step: int) -> None:
        """Wait until that step was judged."""
        until(lambda: re.search(rf"Step {step}\b", self.text()) or self.covers(step), f"step {step} in the log")

    def goes_on(self, ticks: int = 4) -> None:
        """Wait until so many poll intervals have passed for it, however slowly: what it was to do by itself, it has done."""

        def count() -> int:
            return sum(line["kind"] == "tick" for line in self.journal())

        before = count()
        until(lambda: count() >= before + ticks, f"{ticks} ticks")

    def covers(self, step: int) -> bool:
        return any(int(a) <= step <= int(b) for a, b in re.findall(r"Step (\d+)–(\d+)", self.text()))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, once it listens to SIGTERM (an interpreter that is still starting does not); its exit code."""
        until(lambda: self.process.poll() is not None or listens(self.process.pid), "its listening")
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The log, whole lines only."""
        found: list[str] = []
        for path in sorted((self.out / "logs").glob("smart_monitor_*.log")):
            try:
                found += path.read_bytes().decode().split("\n")[:-1]
            except FileNotFoundError:
                continue
        return found

    def having(self, text: str) -> list[str]:
        return [line for line in self.lines() if text in line]

    def says(self, text: str) -> str:
        """Wait for a line with this in it."""
        return until(lambda: self.having(text), f"a line with {text!r}")[0]

    def alerts(self) -> list[str]:
        return self.having("] [ALERT] ")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        try:
            lines = (self.out / "logs" / "events.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines]
        return [e for e in found if not kind or e["event"] == kind]

    def findings(self) -> list[str]:
        return [e["kind"] for e in self.events("finding") if not e["historical"]]

    def snapshots(self) -> list[str]:
        try:
            return sorted(n for n in os.listdir(self.out / "snapshots") if not n.startswith("."))
        except FileNotFoundError:
            return []

    def journal(self) -> list[dict[str, Any]]:
        """Every journal line but the headers."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.out / ".smart_monitor" / "journal").glob("*.jsonl")):
            found += [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        return [line for line in found if "n" in line]

    def replayed(self) -> str:
        return command("replay", self.out, "--format", "jsonl").stdout

    def told(self) -> str:
        """The findings as they stand in events.jsonl, byte for byte."""
        with open(self.out / "logs" / "events.jsonl", encoding="utf-8", newline="\n") as lines:
            return "".join(line for line in lines if line.startswith('{"event": "finding"'))


def serve(daemon: Daemon) -> None:
    """`Daemon.run` without its signals, which belong to main threads."""
    with ExitStack() as stack:
        daemon._begin(stack)
        schedule = Schedule(daemon._host_job, 0.2)
        while not daemon._stopping:
            daemon._turn(schedule)
        schedule.close()
        daemon._close_all()
