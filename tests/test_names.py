"""What `read_row` makes of the rows that trainers write."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest

from smart_monitor.aliases import is_clock
from smart_monitor.names import MAX_METRICS, MAX_STEP, read_row, read_time


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ({"loss": 1.5}, {"loss": 1.5}),
        ({"train_loss": 1.5}, {"loss": 1.5}),
        ({"training_loss": 1.5}, {"loss": 1.5}),
        ({"last_loss": 1.5}, {"loss": 1.5}),
        ({"train/loss": 1.5}, {"loss": 1.5}),
        ({" Loss ": 1.5}, {"loss": 1.5}),
        ({"Loss/train": 1.5, "Loss/val": 2}, {"loss": 1.5, "eval_loss": 2.0}),
        ({"loss_train": 1.5, "loss_val": 2}, {"loss": 1.5, "eval_loss": 2.0}),
        ({"train": {"loss": 1.5, "val_loss": 2}}, {"loss": 1.5, "eval_loss": 2.0}),
        ({"training/eval_loss": 2, "train/val_acc": 0.5}, {"eval_loss": 2.0, "eval_accuracy": 0.5}),
        ({"train_gnorm": 3}, {"grad_norm": 3.0}),
        ({"rollout/ep_rew_mean": 3}, {"reward": 3.0}),
        ({"train_loss_step": 1.5, "train_loss_epoch": 9}, {"loss": 1.5}),
        ({"train_loss_epoch": 9}, {"loss": 9.0}),
        ({"val/loss": 2}, {"eval_loss": 2.0}),
        ({"eval_loss": 2}, {"eval_loss": 2.0}),
        ({"val_loss_epoch": 2}, {"eval_loss": 2.0}),
        ({"eval_loss": 3, "validation_loss": 1, "val_loss": 2}, {"eval_loss": 1.0}),
        ({"acc": 0.5, "accuracy_percent": 60, "accuracy_last_50": 70, "accuracy_last_20": 80}, {"accuracy": 80.0}),
        ({"accuracy_last_20": None, "accuracy_last_50": "n/a", "accuracy_percent": 60}, {"accuracy": 60.0}),
        ({"acc": 0.25}, {"accuracy": 0.25}),
        ({"accuracy": 0.9, "val_acc": 0.8}, {"accuracy": 0.9, "eval_accuracy": 0.8}),
        ({"lr": "5e-05"}, {"learning_rate": 5e-05}),
        ({"lr-AdamW": 1e-3}, {"learning_rate": 1e-3}),
        ({"grad/global_norm": 3, "global_grad_norm": 4}, {"grad_norm": 4.0}),
        ({"gradient_norm": 3}, {"grad_norm": 3.0}),
        ({"grad/has_nan": True, "has_inf": False}, {"has_nan": 1.0, "has_inf": 0.0}),
        ({"mean_reward": 3, "kl": 0.1}, {"reward": 3.0, "kl": 0.1}),
        ({"test_loss": 4, "eval/learning_rate": 2}, {"test_loss": 4.0, "eval/learning_rate": 2.0}),
        ({"latest_metrics": {"loss": 1, "v": 2}, "latest_eval": {"loss": 3}}, {"loss": 1.0, "v": 2.0, "eval_loss": 3.0}),
        ({"train": {"loss": 1}, "val": {"loss": 2, "accuracy": 3}}, {"loss": 1.0, "eval_loss": 2.0, "eval_accuracy": 3.0}),
        ({"hardware": {"gpu_util": 9, "deep": {"er": 1}}}, {"hardware/gpu_util": 9.0}),
        ({"config": {"learning_rate": 9}}, {"config/learning_rate": 9.0}),
        ({"flag": True, "list": [1, 2], "word": "x", "none": None}, {}),
    ],
)  # fmt: skip
def test_a_spelling_is_read_under_its_canonical_name(row: dict[str, Any], values: dict[str, float]) -> None:
    assert values == read_row(row).values


@pytest.mark.parametrize("written", [math.nan, "NaN", "nan", " NAN ", "-nan"])
def test_a_nan_may_be_bare_or_quoted(written: object) -> None:
    assert math.isnan(read_row({"step": 3, "loss": written}).values["loss"])


@pytest.mark.parametrize(
    ("written", "value"), [(math.inf, math.inf), ("-Infinity", -math.inf), ("inf", math.inf), (1e308, 1e308)]
)
def test_infinite_and_huge_losses_are_values(written: object, value: float) -> None:
    assert value == read_row({"loss": written}).values["loss"]


@pytest.mark.parametrize("written", [None, "null", "None"])
def test_a_null_metric_is_told_apart_from_an_absent_one(written: object) -> None:
    given = read_row({"step": 3, "loss": written})
    assert (("loss",), {}) == (given.nulls, given.values)
    assert () == read_row({"step": 3}).nulls


def test_a_null_is_not_told_when_another_alias_has_the_value() -> None:
    assert () == read_row({"val_loss": None, "eval_loss": 2.0}).nulls


@pytest.mark.parametrize("written", ["1,234", "1_000", "", "abc", [1], {"a": "b"}, True, 10**400])
def test_a_value_that_is_no_number_is_as_if_not_given(written: object) -> None:
    reading = read_row({"step": 1, "loss": written})
    assert "loss" not in reading.values
    assert () == reading.nulls


def test_the_mean_over_the_run_at_its_end_is_no_loss() -> None:
    assert {"train_runtime": 12.0} == read_row({"train_runtime": 12.0, "train_loss": 1.2, "epoch": 3.0}).values
    assert {"train/train_runtime": 12.0} == read_row({"train/train_runtime": 12.0, "train/train_loss": 1.2}).values
    assert 1.2 == read_row({"train_runtime": 12.0, "loss": 1.2, "train_loss": 9.0}).values["loss"]


@pytest.mark.parametrize(
    ("row", "step", "by"),
    [
        ({"current_step": 5, "step": 6}, 5, "step"),
        ({"current_step": None, "step": 6}, 6, "step"),
        ({"train/global_step": 6}, 6, "step"),
        ({"current_steps": "7"}, 7, "step"),
        ({"step": 7.0}, 7, "step"),
        ({"iterations": 8, "epoch": 1}, 8, "step"),
        ({"_step": 8}, 8, "step"),
        ({"num_updates": "8", "epoch": 1}, 8, "step"),
        ({"time/total_timesteps": 2048, "time/iterations": 1}, 2048, "step"),
        ({"training_iteration": 3, "timesteps_total": 12000}, 3, "step"),
        ({"generation": 4, "epoch": 1}, 4, "episode"),
        ({"step": "finished", "epoch_current": 4}, 4, "epoch"),
        ({"last_completed_epoch": 4.0}, 4, "epoch"),
        ({"epoch": 0.13}, None, "epoch"),
        ({"iter": 50, "epoch": 3}, 3, "epoch"),
        ({"iter": 50, "epoch": 3.5}, 50, "step"),
        ({"iter": 50}, 50, "step"),
        ({"loss": 1.0}, None, "row"),
        ({"step": MAX_STEP}, MAX_STEP, "step"),
    ],
)
def test_the_step_comes_from_the_first_usable_of_its_keys(row: dict[str, Any], step: int | None, by: str) -> None:
    reading = read_row(row)
    assert (step, by) == (reading.step, reading.by)


@pytest.mark.parametrize(
    "written",
    [-5, 10**30, pytest.param(10**5000, id="5001 digits"), 1.5, math.nan, math.inf, "many", True, [1], MAX_STEP + 1, "1e400"],
)
def test_a_step_that_cannot_be_used_is_not_given_and_said(written: object) -> None:
    reading = read_row({"step": written, "loss": 1.0}, "status")
    assert reading.step is None
    assert 1 == len(reading.oddities)
    assert reading.oddities[0].startswith("status: step ")
    assert reading.oddities[0].endswith(" is not usable")


def test_a_numeric_step_that_cannot_be_used_does_not_turn_epochs_into_steps() -> None:
    assert (None, "step") == read_row({"step": -5, "epoch": 3, "loss": 1.0})[:2]


@pytest.mark.parametrize(
    ("row", "total"),
    [
        ({"step": 1, "total_steps": 100, "max_steps": 5}, 100),
        ({"step": 1, "max_steps": -1}, None),
        ({"step": 1, "_max_steps": "70"}, 70),
        ({"step": 1, "total_epochs": 3}, None),
        ({"epoch": 1, "total_epochs": 3, "total_steps": 900}, 3),
        ({"episode": 1, "total_episodes": 40}, 40),
    ],
)
def test_the_total_is_of_what_the_step_counts(row: dict[str, Any], total: int | None) -> None:
    assert total == read_row(row).total


def test_times_are_unix_seconds_whatever_their_form() -> None:
    assert 1763456789.5 == read_time(1763456789.5)
    assert 1763456789.5 == read_time(1763456789500)
    assert 1763456789.0 == read_time("1763456789")
    assert 0.0 == read_time("1970-01-01T00:00:00+00:00")
    assert 1.0 == read_time("1970-01-01T00:00:01Z")
    assert datetime(2025, 11, 12, 14, 30, 22, 500000).timestamp() == read_time("2025-11-12T14:30:22.500000")
    assert datetime(2025, 11, 12, 14, 30, 22).timestamp() == read_time("2025-11-12 14:30:22")


@pytest.mark.parametrize(
    "written", ["yesterday", "", 12, -5, math.nan, math.inf, 10**400, None, [], "9999-99-99T00:00:00", "0001-01-01"]
)
def test_a_time_that_is_not_believable_is_none(written: object) -> None:
    found = read_time(written)
    assert found is None or found < 0  # year 1 is a time in some zones, and an error in others


def test_a_key_called_time_that_holds_a_duration_is_a_metric() -> None:
    reading = read_row({"step": 1, "loss": 2.0, "time": 0.35})
    assert (None, {"loss": 2.0, "time": 0.35}) == (reading.time, reading.values)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"status": "training"}, "training"),
        ({"status": "RUNNING..."}, "training"),
        ({"state": "in progress"}, "training"),
        ({"phase": "paused"}, "idle"),
        ({"status": "Finished!"}, "completed"),
        ({"status": "OOM"}, "crashed"),
        ({"status": "watchdog"}, ""),
        ({"status": "watchdog", "phase": "train"}, "training"),
        ({"status": 3}, ""),
        ({"is_running": False}, "idle"),
        ({"is_training": True}, "training"),
        ({"done": True}, "completed"),
        ({"done": False}, ""),
    ],
)
def test_state_words_are_normalised(row: dict[str, Any], state: str) -> None:
    assert state == read_row(row).state


def test_identity_and_message_are_words_without_control_characters() -> None:
    reading = read_row({"training_pid": 4711, "run_id": "a\nb", "error_message": "boom\x1b[31m\r\n[ALERT] forged" + "x" * 500})
    assert {"pid": "4711", "run_id": "a b"} == reading.ids
    assert reading.note.isprintable()
    assert reading.note.startswith("boom [31m  [ALERT] forged")
    assert 200 == len(reading.note)


def test_hostile_keys_stay_data() -> None:
    reading = read_row({"a\n[ALERT] b": 1, "x" * 10_000: 2, "\ud800": 3, "": 4})
    assert all(name.isprintable() and len(name) <= 200 for name in reading.values)
    assert 2 == len(reading.values)  # nothing is left of the other two


def test_texts_that_happen_to_be_numbers_are_no_metrics() -> None:
    assert {} == read_row({"model_answer": "42", "current_prompt": "7", "seed": "1"}).values
    assert {"policy_loss": 0.5} == read_row({"policy_loss": "0.5"}).values


def test_at_most_512_metrics_are_kept_the_canonical_ones_first() -> None:
    values = read_row({**{f"m{i}": i for i in range(5000)}, "loss": 0.5, "lr": 1e-3}).values
    assert MAX_METRICS == len(values)
    assert (0.5, 1e-3, 0.0) == (values["loss"], values["learning_rate"], values["m0"])


@pytest.mark.parametrize(
    ("row", "recognised"),
    [
        ({"loss": 1.0}, True),
        ({"loss": None}, True),
        ({"reward": 1.0}, True),
        ({"policy_loss": 1.0}, True),
        ({"step": 1, "anything": 2}, True),
        ({"epoch": 1, "total_epochs": 3}, True),
        ({"status": "idle", "current_step": 0}, True),
        ({"step": 1}, False),
        ({"status": "success", "duration": 12.5, "tests": 40}, False),
        ({"trainingStatus": "PRODUCTIVE", "vo2MaxValue": 51.0, "timestamp": "2025-11-12T14:30:22"}, False),
        ({"status": "idle", "message": "hello"}, False),
        ({}, False),
    ],
)
def test_documents_that_are_not_about_training_are_not_recognised(row: dict[str, Any], recognised: bool) -> None:
    assert recognised == read_row(row).recognised


def test_clocks_move_by_themselves_and_metrics_do_not() -> None:
    clocks = ("eta_seconds", "tokens_per_sec", "steps_per_second", "gpu/util", "batch_queue_size", "vram_gb", "progress_pct")
    assert all(is_clock(name) for name in clocks)
    assert not any(is_clock(name) for name in ("loss", "eval_loss", "learning_rate", "beta", "entropy", "times_seen", "accuracy"))


def test_the_rank_is_a_whole_number() -> None:
    assert 3 == read_row({"rank": 3, "loss": 1.0}).rank
    assert 0 == read_row({"rank": -3, "loss": 1.0}).rank
