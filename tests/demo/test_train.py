"""The demo's trainer is real: right gradients, a loss that falls, files as Hugging Face leaves them, a true blow-up."""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path

import pytest
import safetensors

from smart_monitor.demo.language_model import ALPHABET, Example, LanguageModel, read_text
from smart_monitor.demo.output import KEEP, save_checkpoint, to_safetensors
from smart_monitor.demo.train import train


@pytest.fixture(scope="module")
def text() -> tuple[list[Example], list[Example]]:
    return read_text()


def test_the_text_is_on_every_python_and_its_parts_do_not_overlap(text):
    training, held_out = text

    assert len(training) > 100_000
    assert len(held_out) > 10_000
    assert {code for _, code in training} == set(range(len(ALPHABET)))


@pytest.mark.parametrize("place", [("embedding", 1, 2), ("hidden", 3, 4), ("output", 5, 6), ("output_bias", 7, None)])
def test_the_gradients_by_hand_are_those_of_finite_differences(text, place):
    batch = random.Random(1).sample(text[0], 40)
    name, i, j = place

    def loss_with(change: float) -> tuple[float, LanguageModel]:
        model = LanguageModel(random.Random(2))
        row = getattr(model, name) if j is None else getattr(model, name)[i]
        row[i if j is None else j] += change
        return model.train_step(batch, 0.0)[0], model

    above, below = loss_with(1e-5)[0], loss_with(-1e-5)[0]
    model = LanguageModel(random.Random(2))
    before = getattr(model, name)[i] if j is None else getattr(model, name)[i][j]
    model.train_step(batch, 1.0, momentum=0.0, clip=1e9)
    after = getattr(model, name)[i] if j is None else getattr(model, name)[i][j]

    assert before - after == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-6)


def test_the_loss_falls_and_the_fault_really_blows_it_up(tmp_path: Path):
    train(tmp_path, steps=30, bad_at=24, step_seconds=0.0, seed=0)
    log = json.loads((tmp_path / "current_model" / "checkpoint-30" / "trainer_state.json").read_text())["log_history"]
    losses = [row["loss"] for row in log]

    assert sum(losses[15:23]) / 8 < 0.9 * losses[0]
    assert all(later < 1.15 * sum(losses[i : i + 5]) / 5 for i, later in enumerate(losses[5:24]))
    assert max(losses[24:28]) > 1.6 * losses[23]
    assert log[23]["learning_rate"] == 50 * log[22]["learning_rate"]


def test_the_status_says_what_the_monitor_reads(tmp_path: Path):
    train(tmp_path, steps=2, bad_at=0, step_seconds=0.0, seed=0)
    status = json.loads((tmp_path / "status" / "training_status.json").read_text())

    assert status["status"] == "completed"
    assert (status["current_step"], status["total_steps"]) == (2, 2)
    assert 0 <= status["accuracy_percent"] <= 100
    assert {"loss", "learning_rate", "grad_norm", "epoch", "timestamp", "pid"} <= set(status)
    assert [p.name for p in (tmp_path / "status").iterdir()] == ["training_status.json"]


def test_the_last_three_checkpoints_stay_and_the_top_level_model_is_the_newest(tmp_path: Path):
    for step in (10, 20, 90, 100, 110):
        save_checkpoint(tmp_path, step, {"w": ([1], array("f", [step]))}, {"global_step": step})
    current = tmp_path / "current_model"

    assert KEEP == 3
    assert sorted(p.name for p in current.iterdir()) == ["checkpoint-100", "checkpoint-110", "checkpoint-90", "model.safetensors"]
    assert (current / "model.safetensors").read_bytes() == (current / "checkpoint-110" / "model.safetensors").read_bytes()


def test_the_model_is_read_back_by_the_library_whose_format_it_is():
    model = LanguageModel(random.Random(0))
    read = dict(safetensors.deserialize(to_safetensors(model.tensors())))

    assert set(read) == {"embedding.weight", "hidden.weight", "hidden.bias", "output.weight", "output.bias"}
    assert list(read["hidden.weight"]["shape"]) == [24, 18]
    assert struct.unpack("<f", bytes(read["hidden.weight"]["data"])[4:8])[0] == pytest.approx(model.hidden[0][1], rel=1e-6)
