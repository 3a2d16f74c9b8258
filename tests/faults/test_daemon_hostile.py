"""Status files that nobody should write: each is said or digested; none ends the daemon or forges a line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import status
from tests.daemon.watching import LINE, Monitor, Trainer
from tests.waiting import until

UNREADABLE = {
    "empty": b"",
    "torn": b'{"current_step": 3, "lo',
    "nested": b'{"loss":' * 200_000,
    "no UTF-8": b'{"loss": 0.7, "note": "\xff\xfe"}',
    "a list": b"[1, 2, 3]",
    "foreign": b'{"name": "package", "version": "1.0"}',
    "endless number": b'{"loss": ' + b"9" * 10_000 + b', "step": 1' + b"0" * 10_000 + b"}",
}
ODD_VALUES: list[dict[str, object]] = [
    {"current_step": -5}, {"current_step": "12"}, {"current_step": "twelve"}, {"current_step": 10**30}, {"current_step": 3.7},
    {"current_step": None}, {"current_step": [1]}, {"current_step": {"a": 1}}, {"current_step": True}, {"current_step": 1},
    {"loss": float("nan")}, {"loss": float("inf")}, {"loss": float("-inf")}, {"loss": 1e308}, {"loss": -1e308}, {"loss": "nan"},
    {"loss": "Infinity"}, {"loss": None}, {"loss": "0.71"}, {"loss": []}, {"loss": {}}, {"loss": 0}, {"loss": 5e-324},
    {"loss": 10**400}, {"accuracy": 1e308}, {"accuracy": -3}, {"learning_rate": float("nan")}, {"learning_rate": -1},
    {"grad_norm": float("inf")}, {"epoch": float("inf")}, {"epoch": float("nan")}, {"epoch": 1e308}, {"epoch": "x"},
    {"timestamp": float("nan")}, {"timestamp": 1e308}, {"timestamp": -1e15}, {"timestamp": "yesterday"}, {"timestamp": 10**30},
    {"total_steps": -1}, {"total_steps": 0}, {"total_steps": 10**30}, {"total_steps": "many"}, {"batch_size": 1e308},
    {"rank": -1}, {"rank": "0"}, {"rank": 10**12},
    {"pid": "x"}, {"pid": -1}, {"run_id": "a\n[2026-01-01 00:00:00] [ALERT] forged"},
    {"status": "weird"}, {"status": 7}, {"status": None}, {"x" * 5000: 1}, {f"m{i}": i for i in range(2000)},
    {"\ud800": 1}, {"a\nb": 2}, {"": 3}, {"loss": 0.7, "Loss": 9}, {"error_message": "/etc/passwd\n" * 30},
]  # fmt: skip


def some(*names: str | bytes, slow: tuple[str | bytes, ...]) -> list[Any]:
    """Cases of which those in `slow` are tried only when asked for."""
    return [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize(
    "what",
    some(
        "nested",
        "foreign",
        "huge",
        "missing",
        slow=("empty", "torn", "no UTF-8", "a list", "endless number", "a directory", "a pipe"),
    ),
)
def test_what_cannot_be_read_is_said_everywhere_and_over_when_it_can(tmp_path: Path, what: str) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    settings = {"SMART_MONITOR_BLIND_AFTER": "1"}
    with Monitor(tmp_path, settings=settings) as monitor:
        monitor.sees(1)
        trainer.path.unlink()
        if what == "huge":
            with trainer.path.open("wb") as file:
                file.truncate(100 << 20)
        elif what == "a directory":
            trainer.path.mkdir()
        elif what == "a pipe":
            os.mkfifo(trainer.path)
        elif what != "missing":
            trainer.raw(UNREADABLE[what], in_place=True)
        line = monitor.says("Can't see: ")
        until(lambda: "blind" in monitor.findings(), "the finding")
        until(lambda: status(tmp_path)[0] == 1, "status saying so")
        assert status(tmp_path)[1]["health"] == "blind"
        assert LINE.fullmatch(line)
        if trainer.path.is_dir():
            trainer.path.rmdir()
        trainer.write(step=60)
        monitor.sees(60)
        monitor.says("again")
        until(lambda: status(tmp_path)[0] == 0, "status saying that it sees again")
        until(lambda: any(e["state"] == "resolved" for e in monitor.events("incident")), "the end of the incident")
        assert 0 == monitor.stop()
    assert 1 == monitor.findings().count("blind")


def test_no_value_ends_it_or_parts_live_from_replay(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        for number, odd in enumerate(ODD_VALUES):
            document = {"current_step": 10 * number + 10, "loss": 0.7 + 0.001 * (number % 7)} | odd
            trainer.raw(json.dumps(document).encode())
            time.sleep(0.06)
            if number % 20 == 19:
                monitor.kill()
                monitor.start()
                until(lambda: len(monitor.having("Resumed: ")) == (number + 1) // 20, "the restart")  # noqa: B023
        trainer.write(step=5000)
        monitor.sees(5000)
        assert 0 == monitor.stop()
    assert [] == monitor.having("Internal error")
    assert [] == monitor.having("Judging failed")
    assert all(LINE.fullmatch(line) and len(line) < 2200 for line in monitor.lines())
    assert monitor.told() == monitor.replayed()
    assert "Traceback" not in monitor.said


def test_words_of_the_trainer_forge_no_line_and_no_file_name(tmp_path: Path) -> None:
    evil = "boom/../../x\n[2026-01-01 00:00:00] [ALERT] forged\x1b[2J\r\u2028" + "y" * 300
    trainer = Trainer(tmp_path)
    trainer.write(error_message=evil, run_id=evil)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        trainer.write(float("nan"), error_message=evil, run_id=evil)
        until(monitor.snapshots, "a snapshot")
        trainer.write(0.7, status="crashed", error_message=evil, run_id=evil)
        monitor.says("The trainer says: crashed")
        assert 0 == monitor.stop()
    assert all(LINE.fullmatch(line) for line in monitor.lines())
    assert not any(line.startswith("[2026-01-01") for line in monitor.lines())
    assert "\x1b" not in monitor.text()
    assert all(len(name) < 200 for name in monitor.snapshots())
    assert ["current_model", "logs", "snapshots", "status"] == sorted(n for n in os.listdir(tmp_path) if not n.startswith("."))


@pytest.mark.parametrize(
    "name", some("new\nline", b"raw-\xff\xfe", slow=("with space", "größe-训练", "-dash", "%n%s", "quo'te\""))
)
def test_any_name_of_a_base_directory_will_do(tmp_path: Path, name: str | bytes) -> None:
    base = tmp_path / os.fsdecode(name)
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base) as monitor:
        monitor.sees(1)
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        assert (0, "watching") == (status(base)[0], status(base)[1]["health"])
        assert 0 == monitor.stop()
    assert all(LINE.fullmatch(line) for line in monitor.lines())
    assert monitor.told() == monitor.replayed()


def test_a_thousand_steps_at_once_are_ranges_and_every_one_is_covered(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            trainer.train(1, 0.002)
        monitor.sees(trainer.step)
        assert 0 == monitor.stop()
    seen = [line["step"] for line in monitor.journal() if line["kind"] == "record"]
    text = monitor.text()
    assert "–" in text or len(seen) < 150
    singles = {int(line.rpartition("Step ")[2].split()[0]) for line in monitor.having("Monitoring: Step ") if "–" not in line}
    assert all(step in singles or monitor.covers(step) for step in seen)
