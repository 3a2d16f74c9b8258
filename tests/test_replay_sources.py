"""Replay of whatever a trainer wrote: any file, a directory of several sources, a source that was asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.model import Finding
from smart_monitor.replay import MAX_TOLD, ReplayError, read, replay
from tests.sources import stores, wandb_log
from tests.sources.events import BEGINNING, logged

STEPS = range(60)
LOSS = [math.nan if i == 50 else 2.0 + (i * 7 % 5) / 100 for i in STEPS]


def write(base: Path, name: str) -> Path:
    """The same run, as one writer would have written it."""
    rows = [{"loss": loss, "learning_rate": 0.25} for loss in LOSS]
    if name == "jsonl":
        content = "".join(json.dumps({"step": i, **row}) + "\n" for i, row in enumerate(rows)).encode()
        path = base / "metrics.jsonl"
    elif name == "csv":
        content = "\n".join(["step,loss,lr", *(f"{i},{row['loss']!r},0.25" for i, row in enumerate(rows))]).encode()
        path = base / "metrics.csv"
    elif name == "tensorboard":
        content = BEGINNING + b"".join(logged(i, row, 1.7e9 + i) for i, row in enumerate(rows))
        path = base / "runs" / "events.out.tfevents.1.h.1.0"
    elif name == "wandb":
        content = wandb_log.log([wandb_log.history(i, row) for i, row in enumerate(rows)])
        path = base / "wandb" / "run-a.wandb"
    elif name == "trainer_state":
        content = json.dumps({"log_history": [{"step": i, **row} for i, row in enumerate(rows)]}).encode()
        path = base / "checkpoint-60" / "trainer_state.json"
    elif name == "text":
        content = "".join(f"step {i} | loss {row['loss']} | lr 0.25\n" for i, row in enumerate(rows)).encode()
        path = base / "train.log"
    else:
        path = base / "mlflow.db"
        connection = stores.opened(path, stores.MLFLOW)
        for i, row in enumerate(rows):
            stores.mlflow(connection, i, row)
        connection.close()
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


NAMES = ["jsonl", "csv", "tensorboard", "wandb", "trainer_state", "text", "mlflow_db"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("whole", [False, True], ids=["the file", "the directory"])
def test_the_same_run_gives_the_same_records_and_findings_in_every_format(tmp_path: Path, name: str, whole: bool) -> None:
    path = write(tmp_path, name)
    told: list[str] = []
    judged = list(replay(tmp_path if whole else path, Settings(), tell=told.append))
    records = [r for r, _ in judged]
    assert repr(list(enumerate(LOSS))) == repr([(r.step, float(f"{r.values['loss']:.3g}")) for r in records])
    assert list(STEPS) == [r.index for r in records]
    found = [(o.kind, o.record) for _, outputs in judged for o in outputs if isinstance(o, Finding) and o.severity != "info"]
    assert ("nan", 50) in found
    assert told


def test_of_several_sources_each_metric_is_judged_once_and_in_order_of_steps(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    write(tmp_path, "tensorboard")
    evaluation = BEGINNING + b"".join(logged(i, {"eval/loss": i / 8, "loss": 9.0}, 1.7e9 + i) for i in range(5, 60, 10))
    (tmp_path / "runs" / "events.out.tfevents.2.h.1.0").write_bytes(evaluation)
    told: list[str] = []
    _, records = read(tmp_path, tell=told.append)
    found = list(records)
    assert list(STEPS) == [r.step for r in found if "loss" in r.values]
    assert list(range(len(found))) == [r.index for r in found]
    assert 60 == sum("loss" in r.values for r in found)
    assert {"metrics.jsonl"} == {r.source for r in found if "loss" in r.values}
    assert [(i, "runs") for i in range(5, 60, 10)] == [(r.step, r.source) for r in found if "eval_loss" in r.values]
    assert ["Reads metrics.jsonl (JSON lines)", "Reads runs (TensorBoard event files)"] == [t.partition(":")[0] for t in told]


@pytest.mark.parametrize("asked", ["csv", "metrics.csv"])
def test_a_source_that_is_asked_for_is_the_only_one_read(tmp_path: Path, asked: str) -> None:
    write(tmp_path, "jsonl")
    write(tmp_path, "csv")
    assert {"metrics.csv"} == {r.source for r in read(tmp_path, asked)[1]}


@pytest.mark.parametrize(("name", "asked"), [
    ("status/training_status.json", ""), ("training_status.json", ""), ("kept/training_status.json", ""), ("s.json", "status"),
])  # fmt: skip
def test_a_status_file_is_replayed_by_its_own_path_whatever_else_lies_there(tmp_path: Path, name: str, asked: str) -> None:
    for path, step in ((tmp_path / "status" / "training_status.json", 1), (tmp_path / "training_status.json", 2)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"step": step, "loss": 0.5}))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps({"step": 3, "loss": math.nan}))
    assert [(3, 0)] == [(r.step, r.index) for r in read(tmp_path / name, asked)[1]]
    findings = [o for _, outputs in replay(tmp_path / name, Settings(), asked) for o in outputs if isinstance(o, Finding)]
    assert ["nan"] == [f.kind for f in findings]


def test_ranks_in_the_names_of_files_are_the_ranks_of_their_records(tmp_path: Path) -> None:
    for rank in (0, 1):
        write(tmp_path, "jsonl").rename(tmp_path / f"metrics_rank_{rank}.jsonl")
    found = list(read(tmp_path)[1])
    assert 120 == len(found)
    assert {("metrics_rank_0.jsonl", 0), ("metrics_rank_1.jsonl", 1)} == {(r.source, r.rank) for r in found}


@pytest.mark.parametrize(("name", "source", "why"), [
    ("nowhere", "", "does not exist"), (".", "", "no journal and nothing that a trainer wrote"), (".", "csv", "no csv"),
    ("image.png", "", "is nothing that can be read"), ("image.png", "parquet", "parquet is no format; there are"),
])  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, source: str, why: str) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(ReplayError, match=why):
        list(read(tmp_path / name, source)[1])


def test_a_log_that_is_odd_in_every_row_is_said_to_be_a_few_times(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("".join(f'{{"step": -{i + 1}, "loss": 0.5}}\n' for i in range(50_000)))
    told: list[str] = []
    assert 50_000 == len(list(read(tmp_path / "m.jsonl", tell=told.append)[1]))
    assert MAX_TOLD + 1 == len(told)
    assert ("row 0: step -1 is not usable", "More of the like is not told.") == (told[1], told[-1])
