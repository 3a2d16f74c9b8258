"""Looking into a run's directory: what is found, what is chosen, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from smart_monitor import discovery
from smart_monitor.discovery import Verdicts, find, format_of, unknown
from smart_monitor.discovery.walk import MAX_DEPTH
from smart_monitor.sources import Options, formats
from tests.sources import stores, wandb_log
from tests.sources.events import BEGINNING, logged

ROWS = "".join(json.dumps({"step": i, "loss": 1.0}) + "\n" for i in range(5))
WRITERS = {
    "jsonl": ("metrics.jsonl", ROWS.encode()),
    "csv": ("logs/version_0/metrics.csv", b"step,loss\n1,0.5\n2,0.4\n"),
    "tensorboard": ("runs/a/events.out.tfevents.1.h.1.0", BEGINNING + logged(1, {"loss": 0.5}) + logged(2, {"loss": 0.5})),
    "wandb": ("wandb/offline-run-1-a/run-a.wandb", wandb_log.log([wandb_log.history(1, {"loss": 0.5})])),
    "trainer_state": ("checkpoint-5/trainer_state.json", b'{"log_history": [{"step": 1, "loss": 0.5}]}'),
    "status": ("status/training_status.json", b'{"step": 1, "loss": 0.5}'),
    "text": ("train.log", b"step 1 | loss 0.5\n"),
}


def put(base: Path, name: str, content: bytes | str, at: float = 2e9) -> Path:
    path = base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (at, at))
    return path


def chosen(base: Path, **how: bool | str) -> list[str]:
    found = find(base, **how)  # type: ignore[arg-type]
    return [found.shown(s) for s in found.chosen]


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_is_found_where_its_writer_puts_it(tmp_path: Path, name: str) -> None:
    put(tmp_path, *WRITERS[name])
    (seen,) = find(tmp_path).chosen
    assert name == seen.format.name
    assert seen.open("run").read({}, 1e9, 1.0, True).records


def test_the_files_of_mlflow_are_found_by_their_run(tmp_path: Path) -> None:
    put(tmp_path, "mlruns/0/abc/meta.yaml", "run_id: abc")
    put(tmp_path, "mlruns/0/abc/metrics/loss", "1700000000000 0.5 1\n")
    put(tmp_path, "mlruns/0/meta.yaml", "experiment_id: 0")
    assert ["mlruns/0/abc"] == chosen(tmp_path)


def test_of_several_the_append_only_logs_are_trusted_before_the_one_value_file_and_text_is_the_last_resort(
    tmp_path: Path,
) -> None:
    for name, content in WRITERS.values():
        put(tmp_path, name, content)
    found = find(tmp_path)
    assert ["jsonl", "tensorboard", "csv", "wandb", "status", "trainer_state"] == [s.format.name for s in found.chosen]
    assert ["better sources were found"] == [s.why for s in found.others]
    assert found.sentences()[0] == "Reads metrics.jsonl (JSON lines): every metric it gives is judged from it."


def test_a_log_that_tells_at_once_is_read_beside_a_history_that_comes_with_checkpoints_only(tmp_path: Path) -> None:
    put(tmp_path, *WRITERS["text"])
    put(tmp_path, *WRITERS["trainer_state"])
    assert ["train.log", str(tmp_path)] == chosen(tmp_path)
    assert [str(tmp_path)] == chosen(tmp_path, live=False)  # afterwards it is all there, with its steps
    put(tmp_path, *WRITERS["tensorboard"])
    assert "train.log" not in chosen(tmp_path)


def test_of_several_runs_of_one_format_the_newest_is_read_and_numbers_are_counted_as_numbers(tmp_path: Path) -> None:
    for version in (2, 9, 10):
        put(tmp_path, f"lightning_logs/version_{version}/metrics.csv", "step,loss\n1,0.5\n")
    assert ["lightning_logs/version_10/metrics.csv"] == chosen(tmp_path)
    put(tmp_path, "lightning_logs/version_2/metrics.csv", "step,loss\n1,0.5\n", 2e9 + 60)
    found = find(tmp_path)
    assert ["lightning_logs/version_2/metrics.csv"] == [found.shown(s) for s in found.chosen]
    assert ["lightning_logs/version_2/metrics.csv was written later"] * 2 == [s.why for s in found.others]


def test_what_belongs_to_one_run_is_read_together(tmp_path: Path) -> None:
    for place in ("tb/train", "tb/validation"):
        put(tmp_path, f"{place}/events.out.tfevents.1.h.1.0", BEGINNING + logged(1, {"loss": 0.5}))
    for rank in (0, 1):
        put(tmp_path, f"metrics_rank_{rank}.jsonl", ROWS)
    found = find(tmp_path)
    assert ["metrics_rank_0.jsonl", "metrics_rank_1.jsonl", "tb/validation", "tb/train"] == [found.shown(s) for s in found.chosen]
    assert [0, 1, None, None] == [s.rank for s in found.chosen]


def test_files_of_ranks_are_told_in_one_sentence_and_each_is_read_for_its_own_rank(tmp_path: Path) -> None:
    put(tmp_path, "metrics_rank_2.jsonl", ROWS)
    assert ["Reads metrics_rank_2.jsonl (JSON lines): rank 2, judged from it."] == find(tmp_path).sentences()
    for rank in (10, 0, 3, 1):
        put(tmp_path, f"metrics_rank_{rank}.jsonl", ROWS)
    assert ["Reads metrics_rank_0.jsonl and 4 more (JSON lines): ranks 0–3, 10, each judged from its own."] == (
        find(tmp_path).sentences()
    )
    put(tmp_path, "table.csv", "step,lr\n1,0.5\n")
    put(tmp_path, "probe_rank_1.jsonl", ROWS)
    assert [
        "Reads probe_rank_1.jsonl (JSON lines): rank 1, judged from it.",
        "Reads metrics_rank_0.jsonl and 3 more (JSON lines): ranks 0, 2, 3, 10, each judged from its own.",
        "Reads metrics_rank_1.jsonl (JSON lines): rank 1, for metrics that those above do not give.",
        "Reads table.csv (a CSV table): for metrics that those above do not give.",
    ] == find(tmp_path).sentences()


def test_what_is_a_day_older_is_of_another_run(tmp_path: Path) -> None:
    put(tmp_path, "metrics.jsonl", ROWS)
    put(tmp_path, "old.csv", "step,loss\n1,0.5\n", 2e9 - 100_000)
    assert ["metrics.jsonl"] == chosen(tmp_path)


def test_a_file_that_only_is_called_like_metrics_is_left_out_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "data.jsonl", '{"prompt": "a", "answer": "b"}\n' * 30)
    put(tmp_path, "table.csv", "name,city\na,b\n")
    found = find(tmp_path)
    assert [] == found.chosen
    assert {"table.csv": "it holds no metrics of training", "data.jsonl": True} == {
        found.shown(s): s.why if s.format.name == "csv" else "does not look like training" in s.why for s in found.others
    }


HIDDEN = ["snapshots/a", ".smart_monitor/journal", "x.monitor", ".git", "venv/lib", "node_modules", "anomalies"]
HIDDEN += ["restored/anomaly_20261127_223018_nan", "anomaly_20261127_223018_nan"]  # what `snapshots restore` and `fetch` write


@pytest.mark.parametrize("place", [*HIDDEN, "/".join("d" * (MAX_DEPTH + 1))])
def test_what_is_ours_hidden_or_too_deep_is_not_entered(tmp_path: Path, place: str) -> None:
    put(tmp_path, "venv/pyvenv.cfg", "")
    put(tmp_path, f"{place}/metrics.jsonl", ROWS)
    assert [] == chosen(tmp_path)


def test_our_own_logs_are_not_read(tmp_path: Path) -> None:
    put(tmp_path, "logs/smart_monitor_20260101.log", "[2026-01-01 00:00:00] [INFO] Monitoring: Step 5 loss=0.5\n")
    put(tmp_path, "logs/events.jsonl", '{"event":"finding","schema":1,"step":5,"value":1.0,"loss":1}\n' * 3)
    assert [] == chosen(tmp_path)


def test_a_directory_without_end_is_given_up_after_a_while_and_that_is_said(tmp_path: Path) -> None:
    put(tmp_path, "metrics.jsonl", ROWS)
    for number in range(5):
        put(tmp_path, f"d{number}/metrics.jsonl", ROWS)
    clock = iter(range(0, 1000, 3))
    found = find(tmp_path, clock=lambda: float(next(clock)))
    assert ["metrics.jsonl"] == [found.shown(s) for s in found.chosen]
    assert "name the file with --source" in found.notes[0]


def test_links_to_directories_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "run/wandb/offline-run-1-a/run-a.wandb", WRITERS["wandb"][1])
    (tmp_path / "run" / "wandb" / "latest-run").symlink_to("offline-run-1-a")
    (tmp_path / "run" / "self").symlink_to(tmp_path / "run")
    assert ["wandb/offline-run-1-a/run-a.wandb"] == chosen(tmp_path / "run")


@pytest.mark.parametrize("asked", ["csv", "logs/version_0/metrics.csv", "metrics.csv"])
def test_a_source_can_be_asked_for(tmp_path: Path, asked: str) -> None:
    for name, content in WRITERS.values():
        put(tmp_path, name, content)
    assert ["logs/version_0/metrics.csv"] == chosen(tmp_path, only=asked)


def test_databases_are_for_replay_only(tmp_path: Path) -> None:
    connection = stores.opened(tmp_path / "mlflow.db", stores.MLFLOW)
    stores.mlflow(connection, 1, {"loss": 0.5})
    connection.close()
    found = find(tmp_path)
    assert ([], True) == (found.chosen, "for replay only" in found.others[0].why)
    assert ["mlflow.db"] == chosen(tmp_path, live=False)


@pytest.mark.parametrize("name", WRITERS)
def test_a_single_file_is_known_by_name_or_content(tmp_path: Path, name: str) -> None:
    file, content = WRITERS[name]
    path = put(tmp_path, Path(file).name, content)
    seen = format_of(path)
    assert seen is not None
    assert name == seen.format.name
    if name in ("jsonl", "csv", "text"):
        other = put(tmp_path, "without_a_suffix", content)
        found = format_of(other)
        assert found is not None
        assert name == found.format.name


def test_every_format_says_what_its_files_are_called() -> None:
    assert all(f.patterns and f.title and f.index for f in formats())


def test_the_probe_s_file_is_judged_before_other_json_lines(tmp_path: Path) -> None:
    for name in ("a_log.jsonl", "probe_rank_0.jsonl", "z_log.jsonl"):
        (tmp_path / name).write_text('{"step": 1, "loss": 0.5}\n')
    assert find(tmp_path).chosen[0].place.name == "probe_rank_0.jsonl"


BARS = "".join(f"\rMap: {n % 100}%|███       | {n}/100000 [00:01<00:09, 9999.9 examples/s]" for n in range(20_000)) + "\n"


def test_a_log_is_found_though_a_megabyte_of_progress_bars_stands_before_its_first_loss(tmp_path: Path) -> None:
    put(tmp_path, "train.log", BARS + "{'loss': 2.0, 'epoch': 0.1}\n")
    assert ["train.log"] == chosen(tmp_path)


def test_what_was_looked_through_in_vain_is_not_looked_through_again_when_the_file_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MAX_LOOKS", 1)
    verdicts: Verdicts = {}
    path, content, found = put(tmp_path, "train.log", BARS), BARS, []
    for _ in range(3):
        content += "nothing\n"
        path.write_text(content + "step 1 | loss 2.0\n")
        found.append(len(find(tmp_path, verdicts=verdicts).chosen))
    assert [0, 1, 1] == found


@pytest.mark.parametrize("name", ["metrics.json", "vis_data/scalars.json", "20230501_101112.log.json", "result.json"])
def test_json_lines_that_are_called_json_are_found_and_documents_are_not(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a", name, '{"iteration": 19, "total_loss": 2.5, "loss": 2.5}\n{"iteration": 39, "loss": 2.25}\n')
    put(tmp_path / "b", name, json.dumps({"iteration": 19, "loss": 2.5}, indent=1))
    assert [name] == chosen(tmp_path / "a")
    assert [] == chosen(tmp_path / "b")


def test_a_file_of_any_name_can_be_asked_for_and_the_users_patterns_say_how_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, "output", "batch_no=1 cost=2.5\nbatch_no=2 cost=2.25\n")
    put(tmp_path, "begun", "")
    options = Options(patterns=(r"batch_no=(?P<step>\d+) cost=(?P<loss>\S+)",))
    assert "output is nothing that can be read; log_patterns say how to read a text log." == unknown(tmp_path, "output")
    assert "" == unknown(tmp_path, "output", options)
    (seen,) = find(tmp_path, only="output", options=options).chosen
    assert [1, 2] == [r.step for r in seen.open("run", options=options).read({}, 1e9, 1.0, True).records]
    assert "" == unknown(tmp_path, "begun")
    assert "is no format and no file" in unknown(tmp_path, "absent")
