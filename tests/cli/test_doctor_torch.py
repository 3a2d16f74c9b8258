"""`doctor --torch`: one line for each thing tried, and exit 1 with a sentence where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def doctor(*more: str, without_torch: bool = False) -> subprocess.CompletedProcess[str]:
    hide = "sys.modules['torch'] = None; " if without_torch else ""
    given = ["smart-monitor", "doctor", "--torch", *more]
    program = f"import sys; {hide}from smart_monitor.cli import main; sys.argv = {given!r}; main()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_without_torch_one_sentence_says_what_to_install():
    done = doctor(without_torch=True)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "✗ PyTorch is not installed, which what runs inside training needs",
        "      -> pip install 'smart-monitor[torch]'",
    ]


@pytest.mark.torch
def test_the_monitor_and_the_four_losses_are_tried_one_line_each():
    pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")
    done = doctor()
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in lines] == [
        "✓ Gradient health monitor",
        "✓ Einsum-based (v0)",
        "✓ Norm-based (v1)",
        "✓ Cosine similarity (v2)",
        "✓ Distance-based (v3)",
    ]
    assert {c["state"] for c in json.loads(doctor("--json").stdout)} == {"ok"}


@pytest.mark.torch
def test_what_fails_is_told_and_the_rest_is_tried(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")
    from smart_monitor.inprocess import self_check

    def broken(version: int) -> object:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(self_check, "get_stable_loss_function", broken)
    found = list(self_check.outcomes())

    assert [ok for ok, _ in found] == [True, False, False, False, False]
    assert found[1].sentence == "Einsum-based (v0): RuntimeError: no kernel image is available"
