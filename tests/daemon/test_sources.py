"""A real monitor beside what trainers really write: whatever lies in the run's directory is followed, each step judged once."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.command_line import command, process, status
from tests.daemon.watching import Monitor, Trainer
from tests.sources import wandb_log
from tests.sources.events import BEGINNING, logged
from tests.waiting import until

BAD = 45
STEPS = 60


def loss(step: int) -> float:
    return math.nan if step == BAD else round(2.0 + (step * 7 % 5) / 100, 4)


def append(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def jsonl(base: Path, step: int) -> None:
    append(base / "metrics.jsonl", json.dumps({"step": step, "loss": loss(step)}).encode() + b"\n")


def csv(base: Path, step: int) -> None:
    append(base / "version_0" / "metrics.csv", (b"step,loss\n" if step == 1 else b"") + f"{step},{loss(step)}\n".encode())


def tensorboard(base: Path, step: int) -> None:
    append(
        base / "runs" / "events.out.tfevents.1.h.1.0",
        (BEGINNING if step == 1 else b"") + logged(step, {"loss": loss(step)}, 1.7e9 + step),
    )


def trainer_state(base: Path, step: int) -> None:
    history = [{"step": s, "loss": loss(s), "epoch": s / 100} for s in range(1, step + 1)]
    path = base / "trainer_state.json"
    path.with_suffix(".new").write_text(json.dumps({"global_step": step, "max_steps": 100, "log_history": history}))
    os.replace(path.with_suffix(".new"), path)


def wandb(base: Path, step: int) -> None:
    path = base / "wandb" / "offline-run-1-a" / "run-a.wandb"
    if step == 1:
        append(path, wandb_log.log([wandb_log.history(step, {"loss": loss(step)})]))
    else:
        wandb_log.append(path, wandb_log.history(step, {"loss": loss(step)}))


def text(base: Path, step: int) -> None:
    append(base / "train.log", f"step {step} | loss {loss(step)} | lr 1e-4\n".encode())


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "jsonl": jsonl, "csv": csv, "tensorboard": tensorboard, "trainer_state": trainer_state, "wandb": wandb, "text": text,
}  # fmt: skip


def judged(monitor: Monitor) -> list[int]:
    """The steps in the journal that have a loss."""
    return [
        line["step"]
        for line in monitor.journal()
        if line["kind"] == "record" and "loss" in {**line["values"], **dict.fromkeys(line.get("nulls", ()))}
    ]


def write(base: Path, names: Iterable[str], steps: Iterable[int]) -> None:
    for step in steps:
        for name in names:
            WRITERS[name](base, step)


@pytest.mark.parametrize("name", WRITERS)
def test_a_nan_in_any_format_is_found_live_and_once(tmp_path: Path, name: str) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        write(tmp_path, [name], range(1, STEPS // 2))
        monitor.sees(STEPS // 2 - 2)
        write(tmp_path, [name], range(STEPS // 2, STEPS + 1))
        monitor.sees(STEPS - 1)
        until(lambda: judged(monitor)[-1] >= STEPS - 1, "the last step")
        assert 0 == monitor.stop()
    steps = judged(monitor)
    assert list(range(1, len(steps) + 1)) == steps
    assert ["nan"] == [kind for kind in monitor.findings() if kind != "best_model"]
    assert {name} == {line["source"] for line in monitor.journal() if line["kind"] == "record"}
    assert monitor.having(f"Seen of {name}: ")


def test_a_kill_in_the_middle_of_a_log_loses_nothing_and_tells_nothing_twice(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        for start in range(1, STEPS + 1, 10):
            write(tmp_path, ["jsonl", "csv"], range(start, start + 10))
            monitor.sees(start)
            monitor.stop(signal.SIGKILL)
            monitor.start()
        monitor.sees(STEPS)
        assert 0 == monitor.stop()
    assert list(range(1, STEPS + 1)) == judged(monitor)
    told = [(e["kind"], e["step"]) for e in monitor.events("finding")]
    replayed = [
        json.loads(line) for line in command("replay", tmp_path / "metrics.jsonl", "--format", "jsonl").stdout.splitlines()
    ]
    assert [(f["kind"], f["step"]) for f in replayed] == told
    assert len(told) == len(set(told))


def test_two_formats_of_one_run_alarm_once(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        for step in range(1, STEPS + 1):
            write(tmp_path, ["jsonl", "tensorboard"], [step])
            trainer.write(loss(step), step=step)
        monitor.sees(STEPS)
        trainer.raw(b'{"status": "completed", "current_step": 60}')
        monitor.says("The trainer says: completed")
        assert 0 == monitor.stop()
    assert list(range(1, STEPS + 1)) == judged(monitor)
    assert 1 == monitor.findings().count("nan")


def test_what_stands_there_at_first_contact_is_history_however_much(tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"step": s, "loss": math.nan if s % 1000 == 500 else 2.0 + (s * 7 % 5) / 100}) + "\n" for s in range(1, 12_001)
    )
    (tmp_path / "metrics.jsonl").write_text(rows)
    with Monitor(tmp_path) as monitor:
        monitor.says("Caught up: 12000 records stood there already (steps 1–12000)")
        append(tmp_path / "metrics.jsonl", b'{"step": 12001, "loss": NaN}\n')
        until(monitor.findings, "the new finding")
        assert 0 == monitor.stop()
    assert ["nan"] == monitor.findings()
    assert 1 == len(monitor.snapshots())


def test_what_the_trainer_prints_is_judged_at_once_also_when_a_checkpoint_has_brought_its_history(tmp_path: Path) -> None:
    def printed(step: int) -> None:
        append(tmp_path / "train.log", f"{{'loss': {loss(step)}, 'grad_norm': 1.0, 'epoch': {step / 100}}}\n".encode())

    for step in range(1, 31):
        printed(step)
    with Monitor(tmp_path, settings={"SMART_MONITOR_POLL_INTERVAL": "0.2"}) as monitor:
        monitor.says("Caught up: 30 records stood there already (epochs 0.01–0.3)")
        trainer_state(tmp_path, 30)
        monitor.says("From now on reads")
        for step in range(31, BAD + 1):
            printed(step)
        until(lambda: "nan" in monitor.findings(), "the NaN, before the next checkpoint")
        assert 0 == monitor.stop()
    assert BAD == sum(line["kind"] == "record" for line in monitor.journal())


def test_once_judges_all_of_it_also_a_row_that_waits(tmp_path: Path) -> None:
    write(tmp_path, ["tensorboard"], range(1, BAD + 1))
    (path,) = (tmp_path / "runs").iterdir()
    os.utime(path, (1.7e9, 1.7e9))
    done = process("watch", "--base-dir", tmp_path, "--once")
    assert 0 == done.returncode, done.stderr
    assert "nan (critical)" in done.stderr


def test_a_hugging_face_output_directory_is_left_alone(tmp_path: Path) -> None:
    base = tmp_path / "out"
    trainer = Trainer(base, layout=False)
    base.mkdir()
    (base / "current_model").mkdir()
    checkpoint = trainer.checkpoint(10)
    checkpoint.rename(base / "checkpoint-10")
    (base / "current_model").rmdir()
    trainer_state(base / "checkpoint-10", 10)
    with Monitor(base, out=None) as monitor:
        monitor.out = tmp_path / "out.monitor"
        monitor.watching()
        (base / "checkpoint-50").mkdir()
        (base / "checkpoint-50" / "model.safetensors").write_bytes((base / "checkpoint-10" / "model.safetensors").read_bytes())
        trainer_state(base / "checkpoint-50", 50)
        until(lambda: "nan" in monitor.findings(), "the NaN")
        until(monitor.snapshots, "the snapshot")
        assert 0 == monitor.stop()
    assert ["checkpoint-10", "checkpoint-50"] == sorted(os.listdir(base))


def test_status_and_doctor_name_the_sources_and_how_much_was_seen(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        write(tmp_path, ["jsonl"], range(10, 210, 10))
        monitor.sees(200)
        for step in (1, 2, 6):
            trainer.write(0.5, step=step, accuracy=50)
            until(
                lambda step=step: any(line.get("step") == step and "accuracy" in line["values"] for line in monitor.journal()),
                "the status",
            )
        known = until(lambda: [s for s in status(tmp_path)[1]["vitals"]["sources"] if s["last_step"] == 6], "vitals")
        assert ("status", 3, 6) == (known[0]["name"], known[0]["records"], known[0]["steps"])
        said = command("status", "--base-dir", tmp_path).stdout
        assert "jsonl: all 20 rows, one in 10 steps" in said
        assert "status: 3 of 6 steps" in said
        examined = command("doctor", "--base-dir", tmp_path).stdout
    assert f"reads {tmp_path}/metrics.jsonl (JSON lines)" in examined
    assert "all 20 rows" in examined


def test_a_source_can_be_asked_for_and_one_that_is_unknown_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ["jsonl", "csv"], range(1, 5))
    with Monitor(tmp_path, arguments=("--source", "csv")) as monitor:
        monitor.says("Caught up: 4 records")
        assert 0 == monitor.stop()
    assert {"csv"} == {line["source"] for line in monitor.journal() if line["kind"] == "record"}
    for name, why in (("tensorbord", "did you mean tensorboard?"), ("mlflow_db", "read for replay only")):
        refused = command("watch", "--base-dir", tmp_path, "--source", name)
        assert (2, True) == (refused.returncode, why in refused.stderr), refused.stderr


def test_what_a_database_holds_is_said_to_be_for_replay(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0")
    examined = command("doctor", "--base-dir", tmp_path).stdout
    assert "--source mlflow_db" in examined


def test_doctor_names_the_files_that_are_called_like_nobodys_and_could_be_read(tmp_path: Path) -> None:
    append(tmp_path / "stdout", b"step 1 | loss 2.0\n")
    append(tmp_path / "model.bin", bytes(range(256)) * 100)
    examined = command("doctor", "--base-dir", tmp_path).stdout
    assert "stdout could be read (a text log) if it is asked for" in examined
    assert f"-> smart-monitor watch --base-dir {tmp_path} --source stdout" in examined
    assert "model.bin could" not in examined
    with Monitor(tmp_path, arguments=("--source", "stdout")) as monitor:
        monitor.says("Caught up: 1 record")
        assert 0 == monitor.stop()


def test_a_pattern_of_the_user_is_followed_live(tmp_path: Path) -> None:
    (tmp_path / "smart_monitor.toml").write_text(r"""log_patterns = ['T (?P<step>\d+) L=(?P<loss>\S+)']""" + "\n")
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        for step in range(1, 30):
            append(tmp_path / "train.log", f"T {step} L={'nan' if step == 25 else 2 + step % 3 / 100}\n".encode())
        until(lambda: "nan" in monitor.findings(), "the NaN")
        assert 0 == monitor.stop()


@pytest.mark.parametrize(("history", "kind"), [([{"step": 1, "loss": 2.0}], "source_degraded"), ([], "blind")])
def test_a_status_file_that_is_gone_is_told_though_the_checkpoints_history_still_stands_there(
    tmp_path: Path, history: list[dict[str, float]], kind: str
) -> None:
    trainer = Trainer(tmp_path)
    (trainer.checkpoint(1) / "trainer_state.json").write_text(json.dumps({"global_step": 1, "log_history": history}))
    trainer.train(1)
    with Monitor(tmp_path, settings={"SMART_MONITOR_BLIND_AFTER": "1", "SMART_MONITOR_POLL_INTERVAL": "0.2"}) as monitor:
        monitor.sees(1)
        trainer.write(0.71)
        monitor.sees(2)
        trainer.path.unlink()
        until(lambda: kind in monitor.findings(), "the finding")
        assert [kind] == monitor.findings()
        said = command("status", "--base-dir", tmp_path)
        assert (kind == "blind", True) == (bool(said.returncode), "There is no training_status.json" in said.stdout)
        trainer.write(0.7)
        monitor.says("Incident resolved: " + kind)
