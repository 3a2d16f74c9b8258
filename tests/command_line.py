"""`smart-monitor` as tests call it: in this process where its answer is all that matters, as a process where its life does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from smart_monitor.cli import main
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
QUICK = {
    "SMART_MONITOR_POLL_INTERVAL": "0.2", "SMART_MONITOR_BLIND_AFTER": "60", "SMART_MONITOR_MIN_FREE_GB": "0",
    "SMART_MONITOR_MIN_FREE_PERCENT": "0", "SMART_MONITOR_SPARE_CHECKPOINTS": "0",
}  # fmt: skip
"""Who begins to watch an empty directory, or waits for its turn on a busy machine, is not to be called blind for it."""
Answer = subprocess.CompletedProcess[str]


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without anybody's settings, and with quick ones."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SMART_MONITOR_")}
    return clean | {"PYTHONPATH": str(ROOT)} | QUICK | dict(settings or {})


def command(*arguments: str | Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None) -> Answer:
    """`smart-monitor ARGUMENTS` from its entry point to its exit code, without the start of an interpreter.

    A `watch` that begins to watch is for `process`: it takes the process that it runs in for its own.
    """
    words = ["smart-monitor", *map(str, arguments)]
    stdin, stdout, stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(3))
    with (
        mock.patch.dict(os.environ, environment(settings), clear=True),
        mock.patch.multiple(sys, argv=words, stdin=stdin, stdout=stdout, stderr=stderr),
        contextlib.chdir(cwd or Path.cwd()),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert isinstance(end.value.code, int), end.value.code
    return Answer(words, end.value.code, *(said.detach().getvalue().decode() for said in (stdout, stderr)))


def process(*arguments: str | Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None) -> Answer:
    """The same as a process, as a user starts it; to its end."""
    return subprocess.run(
        [sys.executable, "-m", "smart_monitor", *map(str, arguments)],
        env=environment(settings), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def status(base: Path, out: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `smart-monitor status --json`."""
    done = command("status", "--base-dir", base, "--json", *(["--out", out] if out else []))
    return done.returncode, json.loads(done.stdout)
