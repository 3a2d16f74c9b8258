"""What trainers and loggers really write is read as it was logged: each runs for a few steps in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.discovery import find
from smart_monitor.model import RECORD, Record
from smart_monitor.names import read_row
from smart_monitor.sources.text_log import TextLog
from tests.sources.cutting import ignored

pytestmark = [pytest.mark.writers, pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPTS = Path(__file__).parent / "writers"
Rows = list[tuple[int | None, dict[str, float]]]


def ran(script: str, needs: str, directory: Path, *arguments: str) -> tuple[Any, str]:
    """(what went in, as its last line says, all it printed)."""
    missing = [name for name in needs.split() if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; scripts/test --all brings what writes")
    directory.mkdir(parents=True, exist_ok=True)
    home = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), str(directory), *arguments],
        capture_output=True, text=True, cwd=directory, env=os.environ | home, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1]) + "\n"


def records(directory: Path, source: str) -> list[Record]:
    """What is read of the source that is found there."""
    (seen,) = find(directory, only=source, live=False).chosen
    return [r for r in seen.open("run").whole(ignored) if r.kind == RECORD]


def only(names: set[str], found: list[Record]) -> Rows:
    """The records' values of these names, where there are any."""
    rows = [(r.step, {k: v for k, v in r.values.items() if k in names}) for r in found]
    return [row for row in rows if row[1]]


def same(expected: Rows, found: Rows, digits: float = 1e-12) -> bool:
    """Are these the same, with NaN equal to itself and numbers to so many digits?"""
    assert [row[0] for row in expected] == [row[0] for row in found]
    for (_, mine), (_, other) in zip(expected, found, strict=True):
        assert mine.keys() == other.keys()
        for name, value in mine.items():
            assert math.isclose(value, other[name], rel_tol=digits) or (math.isnan(value) and math.isnan(other[name]))
    return True


FLOAT = 1e-6
METRICS = {"loss", "eval_loss", "learning_rate"}


def test_torch_summary_writer(tmp_path: Path) -> None:
    rows, _ = ran("torch_summary", "torch tensorboard", tmp_path)
    assert same(rows, only(METRICS, records(tmp_path, "tensorboard")), FLOAT)


def test_lightning_writes_the_same_as_csv_and_as_events(tmp_path: Path) -> None:
    rows, _ = ran("lightning_loggers", "lightning tensorboard", tmp_path)
    table = only(METRICS, records(tmp_path, "csv"))
    assert same(rows, table, FLOAT)
    assert same(table, only(METRICS, records(tmp_path, "tensorboard")), FLOAT)


@pytest.mark.parametrize("how", ["filtered", "unfiltered"])
def test_the_hugging_face_trainer_in_its_history_its_events_and_its_print(tmp_path: Path, how: str) -> None:
    history, printed = ran("hf_trainer", "transformers tensorboard accelerate", tmp_path, how)
    readings = [read_row(row) for row in history]
    names = {"loss", "eval_loss", "learning_rate", "grad_norm"}
    expected = [(r.step, {k: v for k, v in r.values.items() if k in names}) for r in readings]
    expected = [row for row in expected if row[1]]
    found = records(tmp_path, "trainer_state")
    assert same(expected, only(names, found))
    assert {20} == {r.total for r in found}
    assert same(expected, only(names, records(tmp_path, "tensorboard")), FLOAT)
    log = tmp_path / "train.log"
    log.write_text(printed)
    text = only(names, list(TextLog(log, "run").whole(ignored)))
    assert same([(None, v) for _, v in expected], [(None, v) for _, v in text], 1e-3)
    losses = [values["loss"] for _, values in expected if "loss" in values]
    assert (how == "unfiltered") == any(math.isnan(loss) for loss in losses)
    assert any(math.isnan(values.get("grad_norm", 0.0)) for _, values in expected), "the gradient tells what the loss hides"


def test_wandb_offline(tmp_path: Path) -> None:
    rows, _ = ran("wandb_run", "wandb", tmp_path)
    found = [r._replace(values={k.removeprefix("opt/"): v for k, v in r.values.items()}) for r in records(tmp_path, "wandb")]
    renamed = [(step, {"learning_rate" if k == "lr" else k: v for k, v in values.items()}) for step, values in
               only({"loss", "lr", "learning_rate"}, found)]  # fmt: skip
    assert same(rows, renamed)


@pytest.mark.parametrize("kind", ["files", "database"])
def test_mlflow(tmp_path: Path, kind: str) -> None:
    rows, _ = ran("mlflow_run", "mlflow", tmp_path, kind)
    assert same(rows, only(METRICS, records(tmp_path, "mlflow" if kind == "files" else "mlflow_db")))


def test_trackio(tmp_path: Path) -> None:
    rows, _ = ran("trackio_run", "trackio", tmp_path)
    assert same(rows, only(METRICS, records(tmp_path, "trackio")))


def test_keras_in_its_table_and_its_print(tmp_path: Path) -> None:
    rows, printed = ran("keras_fit", "keras torch", tmp_path)
    assert same(rows, only({"loss", "eval_loss"}, records(tmp_path, "csv")))
    log = tmp_path / "fit.log"
    log.write_text(printed)
    last = dict(only({"loss", "eval_loss"}, list(TextLog(log, "run").whole(ignored))))
    assert same([(step + 1, values) for step, values in rows], sorted(last.items()), 1e-3)


def test_keras_interrupted_and_taken_up_appends_to_its_table(tmp_path: Path) -> None:
    rows, _ = ran("keras_resumed", "keras torch", tmp_path)
    assert list(range(6)) == [step for step, _ in rows]
    found = records(tmp_path, "csv")
    assert same(rows, only({"loss", "eval_loss"}, found))
    assert 1 == len({r.ids["file"] for r in found}), "it is the same file, and no new attempt"


def test_prints_as_those_of_nano_gpt(tmp_path: Path) -> None:
    rows, _ = ran("nano_gpt", "torch", tmp_path, "0")
    assert same(rows, only(METRICS, found := records(tmp_path, "text")))
    assert {0.012} == {round(r.values["mfu"] / 100, 9) for r in found if "mfu" in r.values}
