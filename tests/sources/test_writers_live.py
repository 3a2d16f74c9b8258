"""A real monitor beside frameworks that really train: what they write is followed, trouble is told, the checkpoint kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.names import read_row
from tests.daemon.watching import Monitor
from tests.sources.test_writers import METRICS, Rows, ran, records, same
from tests.waiting import until

pytestmark = [pytest.mark.writers, pytest.mark.slow, pytest.mark.timeout(600)]


def lines(monitor: Monitor) -> list[dict[str, Any]]:
    """What the journal says of records."""
    return [line for line in monitor.journal() if line["kind"] == "record"]


def rows(monitor: Monitor) -> Rows:
    """(step, values) of every record in the journal."""
    return [(line["step"], {name: float(value) for name, value in line["values"].items()}) for line in lines(monitor)]


def judged(monitor: Monitor) -> list[int]:
    """The step of every record that has a loss, or names one that is none."""
    return [line["step"] for line in lines(monitor) if "loss" in line["values"] or "loss" in line.get("nulls", ())]


def test_the_hugging_face_trainer_is_followed_and_the_checkpoint_of_its_nan_kept(tmp_path: Path) -> None:
    base, out = tmp_path / "run", tmp_path / "out"
    base.mkdir()
    with Monitor(base, out=out, settings={"SMART_MONITOR_BLIND_AFTER": "600"}) as monitor:
        monitor.watching()
        history, _ = ran("hf_trainer", "transformers tensorboard accelerate", base, "unfiltered")
        until(lambda: "nan" in monitor.findings(), "the NaN")
        until(lambda: any("nan" in name for name in monitor.snapshots()), "its snapshot")
        logged = [row["step"] for row in history if "loss" in row]
        until(lambda: set(judged(monitor)) == set(logged), "the last row")
        assert 0 == monitor.stop()
    assert logged == judged(monitor)  # in TensorBoard's events and in trainer_state.json, judged once
    assert 1 == monitor.findings().count("nan")
    [kept] = [name for name in monitor.snapshots() if "nan" in name]
    assert any(name.startswith("checkpoint-") for name in os.listdir(out / "snapshots" / kept / "model"))


@pytest.mark.parametrize(("script", "how", "needs", "source"), [
    ("lightning_loggers", (), "lightning tensorboard", "csv"),
    ("lightning_loggers", (), "lightning tensorboard", "tensorboard"), ("torch_summary", (), "torch tensorboard", "tensorboard"),
    ("wandb_run", (), "wandb", "wandb"), ("mlflow_run", ("files",), "mlflow", "mlflow"), ("keras_fit", (), "keras torch", "csv"),
    ("keras_resumed", (), "keras torch", "csv"),
])  # fmt: skip
def test_what_a_writer_logs_is_judged_live_as_it_is_read_afterwards(
    tmp_path: Path, script: str, how: tuple[str, ...], needs: str, source: str
) -> None:  # fmt: skip
    base, out = tmp_path / "run", tmp_path / "out"
    base.mkdir()
    settings = {"SMART_MONITOR_BLIND_AFTER": "600", "SMART_MONITOR_SOURCE": source}
    with Monitor(base, out=out, settings=settings) as monitor:
        monitor.watching()
        ran(script, needs, base, *how)
        expected = records(base, source)
        until(lambda: len(rows(monitor)) >= len(expected), "every record")
        assert 0 == monitor.stop()
    assert same([(r.step, dict(r.values)) for r in expected], rows(monitor))


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward", "grpo"])
def test_the_trainers_of_trl_are_followed_and_read_afterwards_as_they_logged(tmp_path: Path, kind: str) -> None:
    base, out = tmp_path / "run", tmp_path / "out"
    base.mkdir()
    with Monitor(base, out=out, settings={"SMART_MONITOR_BLIND_AFTER": "600"}) as monitor:
        monitor.watching()
        history, _ = ran("trl_trainers", "trl datasets accelerate", base, kind)
        expected = [(r.step, dict(r.values)) for r in map(read_row, history) if r.values]
        until(lambda: len(rows(monitor)) >= len(expected), "every row")
        assert 0 == monitor.stop()
    assert {"loss", "grad_norm", "learning_rate"} <= expected[0][1].keys()
    assert same(expected, rows(monitor))
    assert same(expected, [(r.step, dict(r.values)) for r in records(base, "trainer_state")])


def test_prints_as_those_of_nano_gpt_are_followed_and_their_nan_told(tmp_path: Path) -> None:
    base, out = tmp_path / "run", tmp_path / "out"
    base.mkdir()
    with Monitor(base, out=out, settings={"SMART_MONITOR_BLIND_AFTER": "600"}) as monitor:
        monitor.watching()
        logged, _ = ran("nano_gpt", "torch", base, "0.02")
        until(lambda: len(rows(monitor)) >= len(logged), "every line")
        until(lambda: "nan" in monitor.findings(), "the NaN")
        assert 0 == monitor.stop()
    found = [(step, {k: v for k, v in values.items() if k in METRICS}) for step, values in rows(monitor)]
    assert same(logged, found)
    assert ["nan"] == monitor.findings()
