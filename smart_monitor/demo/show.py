"""Start the monitor, start a training that goes wrong, and show what was kept: each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from smart_monitor.demo.train import BAD_AT, MISTAKE, STEP_SECONDS, STEPS

READY_WITHIN = 20.0
PUBLISHED_WITHIN = 20.0
"""Seconds after the training's end in which the snapshot must be there."""


class DemoError(Exception):
    """The demonstration can't go on; the text is one sentence for the user."""


def run_demo(
    directory: Path | None = None, *, steps: int = STEPS, bad_at: int = BAD_AT, step_seconds: float = STEP_SECONDS
) -> int:
    """Run the demonstration in `directory` (None: a new one, which stays). 0 if the fault was caught and its snapshot verified,
    1 if not, 2 if `directory` can't be used."""
    try:
        base = _directory(directory)
    except (DemoError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        found = _run(base, steps, bad_at, step_seconds)
    except DemoError as error:
        print(f"\n{error} Everything lies in {base}", file=sys.stderr)
        return 1
    return _report(base, found)


def _directory(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="smart-monitor-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DemoError(f"{directory} is not empty; the demonstration wants a directory of its own.")
    return directory.resolve()


def _run(base: Path, steps: int, bad_at: int, step_seconds: float) -> list[Path]:
    """Both processes, from start to end; the snapshots of trouble (not of bests)."""
    with ExitStack() as stack:
        monitor = _start(stack, base, "monitor", "smart_monitor", "watch", "--base-dir", str(base), "--poll-interval", "1")
        _await_monitor(base, monitor)
        print(f"The monitor watches {base} (process {monitor.pid}).")
        numbers = ["--steps", str(steps), "--bad-at", str(bad_at), "--step-seconds", str(step_seconds)]
        trainer = _start(stack, base, "trainer", "smart_monitor.demo.train", "--base-dir", str(base), *numbers)
        print(f"A small language model trains beside it (process {trainer.pid}): {steps} steps of real gradients, about")
        print(f"{steps * step_seconds:.0f} seconds. At step {bad_at} a bad schedule raises the learning rate {MISTAKE}-fold.\n")
        _follow(base, monitor, trainer)
        if trainer.returncode:
            raise DemoError(f"The trainer failed: {_last_line(base / 'trainer.out')}.")
        found = _await_snapshot(base, monitor)
        monitor.send_signal(signal.SIGTERM)
        monitor.wait(30)
    return found


def _start(stack: ExitStack, base: Path, name: str, *command: str) -> subprocess.Popen[bytes]:
    """`python -m command`, its output in BASE/<name>.out, ended when the stack is left."""
    output = stack.enter_context((base / f"{name}.out").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environment()
    )
    stack.callback(_end, process)
    return process


def _environment() -> dict[str, str]:
    """Ours without settings: a threshold left in the environment, or a systemd socket, must not change what is shown."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SMART_MONITOR_") and key != "NOTIFY_SOCKET"}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_monitor(base: Path, monitor: subprocess.Popen[bytes]) -> None:
    """Until the monitor has written its first log line: what it finds at first contact would count as history."""
    deadline = time.monotonic() + READY_WITHIN
    while not _log_lines(base):
        if monitor.poll() is not None:
            raise DemoError(f"The monitor ended at once: {_last_line(base / 'monitor.out')}.")
        if time.monotonic() > deadline:
            raise DemoError(f"The monitor wrote no log within {READY_WITHIN:.0f} seconds.")
        time.sleep(0.1)


def _follow(base: Path, monitor: subprocess.Popen[bytes], trainer: subprocess.Popen[bytes]) -> None:
    """Print the training's course and each alert as it comes, until the trainer ends."""
    alerts, told = 0, -10
    while trainer.poll() is None:
        if monitor.poll() is not None:
            raise DemoError(f"The monitor ended in the middle: {_last_line(base / 'monitor.out')}.")
        row = _read_json(base / "status" / "training_status.json")
        if row and row["current_step"] >= told + 10:
            told = row["current_step"]
            print(f"  step {told:4d}   loss {row['loss']:7.3f}   accuracy {row['accuracy_percent']:4.1f} %", flush=True)
        lines = _alerts(base)
        for line in lines[alerts:]:
            print(f"  {line.split('; missing:')[0]}", flush=True)
        alerts = len(lines)
        time.sleep(0.1)


def _await_snapshot(base: Path, monitor: subprocess.Popen[bytes]) -> list[Path]:
    deadline = time.monotonic() + PUBLISHED_WITHIN
    while time.monotonic() < deadline and monitor.poll() is None:
        found = [path for path in _snapshots(base) if "best_model" not in path.name]
        if found:
            # Two may be of the same second; the first is the one of the lower step.
            return sorted(found, key=lambda path: _read_json(path / "metadata.json").get("step") or 0)
        time.sleep(0.2)
    raise DemoError("Nothing was caught: no snapshot of the trouble was published.")


def _report(base: Path, found: list[Path]) -> int:
    """Print what was caught, where it lies, and the proof that it is whole; 0 if it is."""
    print(f"\nWhat was caught, the first of each kind (all of it: grep ALERT {base}/logs/*.log):")
    for finding in _caught(base):
        print(f"  step {finding['step']:4d}  {finding['kind']:<21} {finding['severity']:<8}  {finding['message']}")
    first, bests = found[0], [path for path in _snapshots(base) if "best_model" in path.name]
    metadata = _read_json(first / "metadata.json")
    print(f"\nKept: {first}")
    for path in sorted(p for p in first.rglob("*") if p.is_file()):
        print(f"  {path.stat().st_size:8,d}  {path.relative_to(first)}")
    print(f"\n  reason        {metadata['reason']}\n  step          {metadata['step']}")
    print(f"  loss_history  {[round(v, 3) if isinstance(v, float) else v for v in metadata['loss_history']]}")
    print(f"  checkpoint    {(metadata.get('checkpoint') or {}).get('name')}")
    others = [f"{len(found) - 1} more of the trouble" if len(found) > 1 else "", f"{len(bests)} of best models" if bests else ""]
    if any(others):
        print(f"\nBeside it lie {' and '.join(filter(None, others))}, in {first.parent}")
    command = ["snapshots", "verify", "--base-dir", str(base), first.name]
    print(f"\n$ smart-monitor {' '.join(command)}", flush=True)
    return (
        1 if subprocess.run([sys.executable, "-m", "smart_monitor", *command], check=False, env=_environment()).returncode else 0
    )


def _snapshots(base: Path) -> list[Path]:
    return sorted((base / "snapshots").glob("anomaly_*"))


def _log_lines(base: Path) -> list[str]:
    logs = sorted((base / "logs").glob("smart_monitor_*.log"))
    return [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]


def _alerts(base: Path) -> list[str]:
    return [line.replace(f"{base}/", "") for line in _log_lines(base) if "] [ALERT] " in line]


def _caught(base: Path) -> list[dict[str, Any]]:
    """The first finding of each kind that is an alarm."""
    events = map(json.loads, (base / "logs" / "events.jsonl").read_text(encoding="utf-8").splitlines())
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "finding" and event["severity"] != "info":
            found.setdefault(event["kind"], event)
    return list(found.values())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it said nothing"
