"""The demonstration from end to end: a real monitor, a real training, and what is printed about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from smart_monitor.demo.show import run_demo


@pytest.mark.slow
def test_the_demonstration_catches_the_fault_and_proves_its_snapshot(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    status = run_demo(tmp_path / "run", steps=60, bad_at=44, step_seconds=0.15)
    said = capfd.readouterr()

    assert status == 0, said
    assert "[ALERT]" in said.out
    caught = said.out.partition("What was caught")[2].partition("Kept:")[0].splitlines()[1:]
    kinds = [line.split()[2] for line in caught if line]
    assert "loss_spike" in kinds
    assert len(set(kinds)) == len(kinds)
    assert "SHA256SUMS" in said.out
    assert "checkpoint-40/model.safetensors" in said.out or "checkpoint-30/model.safetensors" in said.out


def test_a_directory_that_is_in_use_is_refused_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "precious").write_text("x")

    assert run_demo(tmp_path) == 2
    assert "not empty" in capfd.readouterr().err
