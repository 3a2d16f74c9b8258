"""A real monitor process, its workers, and the command line beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).parent / "shim"
QUICK = {
    "SMART_MONITOR_POLL_INTERVAL": "0.2", "SMART_MONITOR_MIN_FREE_GB": "0", "SMART_MONITOR_MIN_FREE_PERCENT": "0",
    "SMART_MONITOR_SPARE_CHECKPOINTS": "0", "SMART_MONITOR_CHECKPOINT_WAIT": "3",
}  # fmt: skip


class Monitor:
    """`watch` beside BASE, with its output in OUT. Started again after each `kill`."""

    def __init__(self, base: Path, out: Path, *, settings: dict[str, str] | None = None, user: int | None = None) -> None:
        self.base, self.out, self.user = base, out, user
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SMART_MONITOR_")}
        self.environment = clean | QUICK | (settings or {})
        self.environment["PYTHONPATH"] = str(ROOT)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "smart_monitor", "watch", "--base-dir", str(self.base), "--out", str(self.out)]
        if self.user is not None:
            command = [
                "setpriv",
                f"--reuid={self.user}",
                f"--regid={self.user}",
                "--clear-groups",
                "--bounding-set=-all",
                *command,
            ]
        with (self.base.parent / "said").open("ab") as said:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=self.base.parent
            )

    def jumping(self) -> None:
        """Let its clock be that of $SOAK_CLOCK."""
        self.environment["PYTHONPATH"] = f"{SHIM}:{ROOT}"

    def kill(self) -> None:
        """kill -9: the monitor only; its worker notices."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, once it hears that (an interpreter that is still starting does not); its exit code, -9 if it did not end."""
        assert self.process is not None
        wait(self.listens, 20)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def listens(self) -> bool:
        """Does it catch SIGTERM, or is it gone?"""
        assert self.process is not None
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return True
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "")
        return not caught or bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def end(self) -> None:
        """Nothing of it stays, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def workers(self) -> list[int]:
        """The pids of its children."""
        assert self.process is not None
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def kill_worker(self) -> bool:
        """kill -9 of a copying process; False if there is none."""
        for pid in self.workers():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            return True
        return False

    def settled(self) -> bool:
        """Has it told how every promise went?"""
        intents = self.out / ".smart_monitor" / "intents"
        return self.begun() and not (intents.is_dir() and any(p.suffix == ".json" for p in intents.iterdir()))

    def judged(self) -> int:
        """How many lines of its logs tell of a step seen."""
        return sum(path.read_text(errors="replace").count("] Monitoring: Step ") for path in self.out.glob("logs/*.log"))

    def begun(self) -> bool:
        """Does a finding stand in the events, and is what happened to its snapshot told?"""
        events = self.events()
        return any(e["event"] == "finding" for e in events) and any(e["event"] == "snapshot" for e in events)

    def events(self) -> list[dict[str, Any]]:
        try:
            lines = (self.out / "logs" / "events.jsonl").read_bytes().split(b"\n")[:-1]
        except OSError:
            return []
        return [json.loads(line) for line in lines]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`smart-monitor ARGUMENTS --base-dir BASE --out OUT`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "smart_monitor", *arguments, "--base-dir", str(self.base), "--out", str(self.out)],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def wait(condition: Any, limit: float) -> bool:
    """Poll until it holds; False if it did not within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
