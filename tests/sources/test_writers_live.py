"""A real monitor beside frameworks that really train: what they write is followed, trouble is told, the checkpoint kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.daemon.watching import Monitor, until
from tests.sources.test_writers import Rows, ran, records

pytestmark = [pytest.mark.writers, pytest.mark.slow, pytest.mark.timeout(600)]


def judged(monitor: Monitor) -> Rows:
    """(step, values) of every line in the journal that has a loss, or names one that is none."""
    lines = [line for line in monitor.journal() if line["kind"] == "record"]
    return [(line["step"], line["values"]) for line in lines if "loss" in line["values"] or "loss" in line.get("nulls", ())]


def test_the_hugging_face_trainer_is_followed_and_the_checkpoint_of_its_nan_kept(tmp_path: Path) -> None:
    base, out = tmp_path / "run", tmp_path / "out"
    base.mkdir()
    with Monitor(base, out=out, settings={"SMART_MONITOR_BLIND_AFTER": "600"}) as monitor:
        monitor.watching()
        history, _ = ran("hf_trainer", "transformers tensorboard accelerate", base, "unfiltered")
        until(lambda: "nan" in monitor.findings(), "the NaN")
        until(lambda: any("nan" in name for name in monitor.snapshots()), "its snapshot")
        logged = [row["step"] for row in history if "loss" in row]
        until(lambda: {step for step, _ in judged(monitor)} == set(logged), "the last row")
        assert 0 == monitor.stop()
    assert logged == [step for step, _ in judged(monitor)]  # in TensorBoard's events and in trainer_state.json, judged once
    assert 1 == monitor.findings().count("nan")
    [kept] = [name for name in monitor.snapshots() if "nan" in name]
    assert any(name.startswith("checkpoint-") for name in os.listdir(out / "snapshots" / kept / "model"))


@pytest.mark.parametrize(("script", "how", "needs", "source"), [
    ("lightning_loggers", (), "lightning tensorboard", "csv"), ("torch_summary", (), "torch tensorboard", "tensorboard"),
    ("wandb_run", (), "wandb", "wandb"), ("mlflow_run", ("files",), "mlflow", "mlflow"), ("keras_fit", (), "keras torch", "csv"),
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
        expected = [r.step for r in records(base, source)]
        until(lambda: len([x for x in monitor.journal() if x["kind"] == "record"]) >= len(expected), "every record")
        assert 0 == monitor.stop()
    found = [line for line in monitor.journal() if line["kind"] == "record"]
    assert expected == [line["step"] for line in found]
