"""The real writers, watched while they save and killed while they save: what is called complete loads, always."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.model import Checkpoint
from tests.writers.watching import Stage, copy_if_it_stands, kill_in_mid_save, stage, watch

HOW = "they run in an environment of their own: scripts/test --all makes it (.venv-writers)"
OLD = Path(sys.prefix) / "old"

# kind, the package it needs, the layout it is found as, another version of the package
WRITERS = [
    ("TorchSteps", "torch", "torch_files", ""),
    ("TorchSamePath", "torch", "torch_files", ""),
    ("Safetensors", "safetensors.torch", "safetensors_files", ""),
    ("Safetensors", "safetensors.torch", "safetensors_files", "safetensors-0.4.5"),
    ("Safetensors", "safetensors.torch", "safetensors_files", "safetensors-0.7.0"),
    ("Dcp", "torch", "dcp", ""),
    ("DcpSamePath", "torch", "dcp", ""),
    ("DcpTwoRanks", "torch", "dcp", ""),
    ("HuggingFace", "transformers", "hf_trainer", ""),
    ("Peft", "peft", "hf_trainer", ""),
    ("Lightning", "lightning", "lightning", ""),
    ("LightningLink", "lightning", "lightning", ""),
    ("LightningFromAfar", "lightning", "lightning", ""),
    ("Accelerate", "accelerate", "accelerate", ""),
    ("KerasFile", "keras", "keras_files", ""),
    ("KerasWeights", "keras", "keras_files", ""),
    ("Orbax", "orbax.checkpoint", "orbax", ""),
]
KILLS = 3
MOST = 5
"""Files of a checkpoint that are deleted, each alone."""

pytestmark = [pytest.mark.writers, pytest.mark.timeout(300)]


def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec("torch") is not None and importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(params=WRITERS, ids=lambda w: w[0] + w[3].removeprefix("safetensors"))
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Stage, str]]:
    kind, package, layout, other = request.param
    if not installed(package) or not (OLD / other).is_dir():
        pytest.skip(
            f"{package.partition('.')[0]} {other.partition('-')[2]} is not installed for the tests of real writers; {HOW}"
        )
    with stage(kind, tmp_path / "log", str(OLD / other) if other else "") as it:
        yield it, layout


def test_what_is_called_complete_of_a_real_writer_loads_even_if_it_is_killed(writer: tuple[Stage, str], tmp_path: Path) -> None:
    it, layout = writer
    late = watched(it, layout, tmp_path)
    torn = killed(it, tmp_path)
    # Shown by -rP: how soon we said so, and what was said of saves that were killed.
    print(f"{layout}: called complete {', '.join(f'{s:.2f}' for s in late)} s after the last byte; torn: {torn}")


def test_what_a_killed_rotation_leaves_of_a_real_checkpoint_is_not_called_complete_or_loads(
    writer: tuple[Stage, str], tmp_path: Path
) -> None:
    it, _ = writer
    it.save(tmp_path / "run", saves=2, pause=0.0)
    assert it.answer() == {"exit": 0}, it.log.read_text(errors="replace")[-3000:]
    first = min(looked(tmp_path / "run"), key=lambda c: c.completed)
    within = Path(first.path).relative_to(os.path.realpath(tmp_path / "run"))
    names = [f.path for f in first.files if f.path != "."]
    if not names:
        return  # one file is there or not
    for number, name in enumerate(random.sample(names, min(len(names), MOST))):
        run = tmp_path / f"run{number}"
        shutil.copytree(tmp_path / "run", run, symlinks=True)
        time.sleep(0.02)
        (run / within / name).unlink()
        left = [Path(c.path) for c in looked(run)]
        assert dict.fromkeys(left, "") == it.load(left), f"without {name}"
        shutil.rmtree(run)


def looked(run: Path) -> list[Checkpoint]:
    shelf = Shelf(run)
    shelf.scan(time.time() + 3)
    return shelf.complete()


def watched(it: Stage, layout: str, tmp_path: Path) -> list[float]:
    """Seconds from the last byte of each checkpoint to our word; every one loads as it stood at that moment."""
    kept = watch(it, tmp_path / "run", tmp_path / "kept", saves=3, pause=1.4, quiet=1.0)
    assert kept
    assert dict.fromkeys(kept, "") == it.load(list(kept))
    shelf = Shelf(tmp_path / "run")
    shelf.scan(time.time() + 3)
    assert shelf.incomplete(0) == []
    assert {layout} == {c.layout for c in shelf.complete()}
    assert min(kept.values()) > 0.9  # a second by the clock of a scan, which takes a moment itself
    assert statistics.median(kept.values()) < 10.0  # 1.1 on an idle machine
    return list(kept.values())


def killed(it: Stage, tmp_path: Path) -> list[str]:
    """What is said of saves that were killed; whatever is still called complete loads."""
    torn: list[str] = []
    for trial in range(KILLS):
        run, copies = tmp_path / f"run{trial}", tmp_path / "copies" / f"{trial}"
        kill_in_mid_save(it, run, delay=random.uniform(0, 0.6))
        shelf = Shelf(run)
        shelf.scan(time.time() + 3)
        kept = [copies / c.name for c in shelf.complete() if copy_if_it_stands(c, copies / c.name)]
        assert dict.fromkeys(kept, "") == it.load(kept)
        torn += shelf.incomplete(0)
        shutil.rmtree(run)
    assert all(" is not complete: " in sentence for sentence in torn)
    return torn
