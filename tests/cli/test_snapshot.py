"""`smart-monitor snapshot`: one now, by hand, with a monitor beside it and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint
from tests.command_line import ROOT, command, environment
from tests.daemon.watching import Monitor, Trainer
from tests.waiting import PATIENCE, until

# A shell starts what runs in its background, tests maybe, deaf to SIGINT.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from smart_monitor.cli import main; main()"


def by_hand(base: Path, *arguments: str) -> dict[str, Any]:
    found = command("snapshot", "--base-dir", base, "--json", *arguments)
    assert 0 == found.returncode, found.stderr
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def metadata(found: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(found["path"]) / "metadata.json").read_text())
    return document


def started(base: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEARING, "snapshot", "--base-dir", str(base), *arguments], env=environment(), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_without_a_monitor_it_keeps_the_newest_checkpoint_and_what_the_status_says(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.write(0.5, step=40, accuracy=75.0, learning_rate=1e-4)
    trainer.checkpoint(20)
    trainer.checkpoint(30)
    before = fingerprint(tmp_path / "current_model")
    found = by_hand(tmp_path, "--note", "before\x1b the new data")
    assert [] == verify(Path(found["path"]))
    assert before == fingerprint(tmp_path / "current_model")
    said = metadata(found)
    assert ("manual", 40, 0.5, 75.0, 1e-4) == tuple(said[k] for k in ("reason", "step", "loss", "accuracy", "learning_rate"))
    assert ("checkpoint-30", 30) == (said["checkpoint"]["name"], said["checkpoint"]["step"])
    assert ("before\x1b the new data", None, [], ["manual"]) == (
        said["note"],
        said["rollback"],
        said["findings"],
        said["triggers"],
    )
    assert (tmp_path / "status" / "training_status.json").read_bytes() == (
        Path(found["path"]) / "training_status.json"
    ).read_bytes()
    shown = command("snapshots", "show", "--base-dir", tmp_path, found["name"]).stdout
    assert "note            before\\x1b the new data" in shown


def test_beside_a_monitor_it_tells_the_histories_and_the_monitor_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    trainer.checkpoint(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        for _ in range(6):
            trainer.train(1)
            monitor.sees(trainer.step)
        found = by_hand(tmp_path, "--pin")
        said = metadata(found)
        assert (7, 7) == (said["step"], len(said["loss_history"]))
        assert 1 == said["attempt"]
        assert [] == verify(Path(found["path"]))
        trainer.write(float("nan"))
        until(lambda: len(os.listdir(tmp_path / "snapshots")) == 2, "the monitor's own snapshot")
        assert 0 == monitor.stop()
    listed = json.loads(command("snapshots", "list", "--base-dir", tmp_path, "--json").stdout)
    assert {(("manual",), True), (("nan",), False)} == {(tuple(s["kinds"]), s["pinned"]) for s in listed}
    assert 0 == command("snapshots", "verify", "--base-dir", tmp_path).returncode


def test_next_waits_for_the_checkpoint_that_is_yet_to_come(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    trainer.checkpoint(1)
    waiting = started(tmp_path, "--next", "--json")
    assert waiting.stderr
    assert "Waiting" in waiting.stderr.readline()
    assert not (tmp_path / "snapshots").exists()
    trainer.checkpoint(2)
    out, _ = waiting.communicate(timeout=PATIENCE)
    assert "checkpoint-2" == json.loads(out)["checkpoint"]


def test_one_that_is_being_written_is_waited_for_as_long_as_told(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    half = trainer.checkpoint(5)
    whole = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(whole[:-1])
    found = command("snapshot", "--base-dir", tmp_path, "--wait", "0.5")
    assert 1 == found.returncode
    assert "nothing was kept" in found.stderr
    assert "checkpoint-5 is not complete" in found.stderr
    waiting = started(tmp_path, "--wait", "60")
    assert waiting.stderr
    assert "Waiting: checkpoint-5 is not complete" in waiting.stderr.readline()
    (half / "model.safetensors").write_bytes(whole)
    out, _ = waiting.communicate(timeout=PATIENCE)
    assert out.startswith("Kept checkpoint-5: ")


def test_where_there_is_nothing_to_keep_nothing_is_made(tmp_path: Path) -> None:
    found = command("snapshot", "--base-dir", tmp_path)
    assert (1, "") == (found.returncode, found.stdout)
    assert "there is no checkpoint in" in found.stderr
    assert [] == os.listdir(tmp_path)


def test_a_disk_that_is_too_full_is_said_and_nothing_left(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1)
    time.sleep(1.1)
    found = command("snapshot", "--base-dir", tmp_path, settings={"SMART_MONITOR_MIN_FREE_PERCENT": "100"})
    assert 1 == found.returncode
    assert "must stay free" in found.stderr
    assert [] == os.listdir(tmp_path / "snapshots")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_told_to_stop_in_the_middle_it_leaves_nothing(tmp_path: Path, number: int) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1, size=8_000_000)
    (tmp_path / "smart_monitor.toml").write_text("copy_rate_mb = 0.5\n")
    copying = started(tmp_path)
    until(lambda: list((tmp_path / "snapshots").glob(".partial-*")), "the partial")
    copying.send_signal(number)
    copying.communicate(timeout=PATIENCE)
    assert 0 != copying.returncode
    until(lambda: [] == os.listdir(tmp_path / "snapshots"), "the end of the partial")
