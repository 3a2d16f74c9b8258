"""What the benchmarks share: the daemon as a process of its own, a trainer's status file, readings from /proc."""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
BASE_ENVIRONMENT = ROOT / ".venv-base" / "bin" / "python"
"""Made by scripts/bench/run: the package and its own dependencies, nothing else."""

TICKS = os.sysconf("SC_CLK_TCK")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a short run: says whether it works, its figures are rough")
    usual = str(BASE_ENVIRONMENT) if BASE_ENVIRONMENT.exists() else sys.executable
    made.add_argument("--python", default=usual, help="interpreter that runs the daemon")
    return made


class Trainer:
    """Writes BASE/status/training_status.json as trainers do: a temporary file, then one rename."""

    def __init__(self, base: Path) -> None:
        self.path = base / "status" / "training_status.json"
        self.path.parent.mkdir(parents=True)
        self._temporary = self.path.with_suffix(".tmp")
        self._noise = random.Random(0)
        self.step = 0

    def write(self, factor: float = 1.0) -> float:
        """One more step, with a loss near 1.0 times `factor`; the monotonic time just before the rename."""
        self.step += 1
        row = {
            "status": "training",
            "current_step": self.step,
            "total_steps": 10_000_000,
            "epoch": 0,
            "loss": factor * self._noise.gauss(1.0, 0.02),
            "accuracy_percent": 70 + self._noise.gauss(0, 0.5),
            "learning_rate": 2e-4,
            "grad_norm": self._noise.uniform(0.8, 1.2),
            "timestamp": datetime.now().isoformat(),
            "pid": os.getpid(),
        }
        self._temporary.write_text(json.dumps(row, indent=2))
        now = time.monotonic()
        os.replace(self._temporary, self.path)
        return now


class Process:
    """What /proc tells of a process that was started here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def cpu_seconds(self) -> float:
        """Processor time of the process and of the children it has waited for."""
        self.must_live()
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS

    def must_live(self) -> None:
        """End the benchmark if it has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self._process.args!r} ended with status {self._process.returncode}.")


class Daemon(Process):
    """`with Daemon(base, python) as daemon:` the monitor beside BASE, ready (by its own notification) when the block begins."""

    def __init__(self, base: Path, python: str, settings: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> None:
        self.base = base
        self._command = [python, "-m", "smart_monitor", "watch", *(arguments or ("--base-dir", str(base)))]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SMART_MONITOR_")}
        self._environment = {**clean, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2", **(settings or {})}

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            address = f"{directory}/notify"
            listener.bind(address)
            listener.settimeout(120)
            with (self.base / "daemon.out").open("wb") as output:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.base,  # python -m looks there first
                    env={**self._environment, "NOTIFY_SOCKET": address},
                )
            try:
                while b"READY=1" not in listener.recv(4096):
                    pass
            except TimeoutError:
                self.__exit__()
                raise SystemExit(f"The daemon never got ready:\n{(self.base / 'daemon.out').read_text()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def memory(self) -> tuple[float, float]:
        """Resident and unshared (USS) memory in MB of 10^6 bytes."""
        self.must_live()
        rollup = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup if line.endswith(" kB")}
        return sizes["Rss"] * 1024 / 1e6, (sizes["Private_Clean"] + sizes["Private_Dirty"]) * 1024 / 1e6

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/task"))

    def files(self) -> int:
        """Descriptors that it holds open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def must_live(self) -> None:
        """End the benchmark if the daemon has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"The daemon died:\n{(self.base / 'daemon.out').read_text()[-2000:]}")

    def log(self) -> Path:
        """The newest of the daemon's logs."""
        return max((self.base / "logs").glob("smart_monitor_*.log"))


class Tail:
    """The lines that were appended to a file since last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def lines(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._at += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


def verdict(figure: str, value: float, bar: float, unit: str) -> bool:
    """Print a figure beside its bar; whether it holds."""
    holds = value <= bar
    print(f"  {figure:<34} {value:9.3f} {unit:<4}  bar {bar:g} {unit:<4}  {'holds' if holds else 'TOO MUCH'}", flush=True)
    return holds
