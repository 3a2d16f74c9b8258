"""What is restored is what a trainer resumes from: it ends with the very weights of a run that never failed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, command

pytestmark = [
    pytest.mark.writers,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None or importlib.util.find_spec("accelerate") is None,
        reason="transformers is not installed for the tests of real writers: scripts/test --all makes its environment",
    ),
]


def train(output: Path, last: int, *resume: Path) -> str:
    """One training to its end or its crash; the last line it says."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "writers" / "resuming.py", output, str(last), *resume],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_training_that_lost_everything_but_the_snapshot_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    wanted = train(tmp_path / "whole", 99)
    run = tmp_path / "run"
    crashed = train(run / "current_model", 13)
    assert wanted.partition(",")[2] != crashed.partition(",")[2]
    kept = command("snapshot", "--base-dir", run, "--json")
    assert 0 == kept.returncode, kept.stderr
    assert "checkpoint-10" == json.loads(kept.stdout)["checkpoint"]
    shutil.rmtree(run / "current_model")
    target = tmp_path / "again"
    said = command("snapshots", "restore", json.loads(kept.stdout)["name"], "--to", target, "--base-dir", run)
    assert f'trainer.train(resume_from_checkpoint="{target}")' in said.stdout, said.stderr
    resumed = train(run / "current_model", 99, target)
    assert "began at 10" == resumed.partition(",")[0]
    assert wanted.partition(",")[2] == resumed.partition(",")[2]
