"""Each command as a process of its own: it says, and ends with, what all other tests are told by its entry point."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from smart_monitor.cli import COMMANDS
from tests.command_line import command, process
from tests.snapshots.made import made

CALLS: dict[str, tuple[int, list[str]]] = {
    # command: (exit code, arguments that change nothing)
    "watch": (2, ["--loss-window", "1"]),
    "status": (1, ["--json"]),
    "stop": (1, []),
    "replay": (1, ["metrics.jsonl", "--format", "jsonl"]),
    "tune": (0, ["metrics.jsonl"]),
    "rules": (0, ["loss_spike"]),
    "snapshot": (1, []),
    "snapshots": (0, ["list"]),
    "doctor": (1, []),
    "config": (0, ["show"]),
    "init": (2, []),
    "demo": (2, ["--no-such-flag"]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a log that goes wrong at its end, a configuration and a snapshot."""
    base = tmp_path_factory.mktemp("run")
    rows = [json.dumps({"step": n, "loss": 0.7 + 0.01 * (n % 3)}) for n in range(60)]
    (base / "metrics.jsonl").write_text("\n".join([*rows, '{"step": 60, "loss": NaN}']) + "\n")
    (base / "smart_monitor.toml").write_text("loss_window = 12\n")
    made(base, at=time.time() - 40.5 * 86400)
    return base


@pytest.mark.parametrize("name", COMMANDS)
def test_a_process_says_and_ends_as_its_entry_point_does(run: Path, name: str) -> None:
    code, arguments = CALLS[name]
    told, expected = (ask(name, *arguments, cwd=run) for ask in (process, command))
    assert (code, code) == (told.returncode, expected.returncode)
    assert [timeless(expected.stdout), timeless(expected.stderr)] == [timeless(told.stdout), timeless(told.stderr)]
    assert told.stdout or told.stderr


def timeless(text: str) -> str:
    """Without the numbers of ages and free space, which go on."""
    return re.sub(r"\d+(\.\d+)?", "#", text)
