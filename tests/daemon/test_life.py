"""The life of a monitor: directories that come and go, signals, restarts, second monitors, modes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from tests.command_line import command, status
from tests.daemon.watching import LINE, Monitor, Trainer
from tests.hands import delete_by_hand
from tests.waiting import until


def test_it_waits_for_a_run_that_does_not_exist_and_never_makes_its_directory(tmp_path: Path) -> None:
    base = tmp_path / "later"
    with Monitor(base) as monitor:
        until(lambda: f"Waiting for {base}" in monitor.said, "the waiting")
        time.sleep(1)
        assert monitor.process.poll() is None
        assert not base.exists()
        trainer = Trainer(base)
        monitor.watching()
        trainer.train(3, 0.1)
        monitor.sees(3)
        assert 0 == monitor.stop()


def test_it_survives_the_deletion_of_the_run_and_its_return(tmp_path: Path) -> None:
    base = tmp_path / "run"
    trainer = Trainer(base)
    with Monitor(base) as monitor:
        trainer.write()
        monitor.watching()
        delete_by_hand(base)
        time.sleep(1.5)
        assert not base.exists()
        Trainer(base).write(step=50)
        monitor.sees(50)
        assert [] == monitor.alerts()
        assert 0 == monitor.stop()


def test_a_run_moved_away_and_back_goes_on_where_it_was(tmp_path: Path) -> None:
    base, away = tmp_path / "run", tmp_path / "away"
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base) as monitor:
        monitor.sees(1)
        trainer.train(4, 0.15)
        monitor.sees(5)
        base.rename(away)
        time.sleep(1.5)
        assert not base.exists()
        away.rename(base)
        trainer.train(1)
        monitor.sees(6)
        assert 0 == monitor.stop()
    numbers = [line["n"] for line in monitor.journal()]
    assert list(range(1, len(numbers) + 1)) == numbers
    assert len(monitor.having("Resumed: ")) == 1


def test_a_status_directory_deleted_again_and_again_is_seen_again_each_time(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    with Monitor(tmp_path) as monitor:
        for _ in range(6):  # more often than an observer may die before it is given up
            trainer.train(1)
            monitor.sees(trainer.step)
            shutil.rmtree(trainer.path.parent)
            time.sleep(0.3)
            trainer.path.parent.mkdir()
        assert [] == monitor.having("Watchdog")


def test_a_symlinked_status_file_is_followed_wherever_it_leads(tmp_path: Path) -> None:
    base, real = tmp_path / "run", tmp_path / "elsewhere"
    trainer = Trainer(base)
    writer = Trainer(real)
    writer.train(1)
    trainer.path.symlink_to(writer.path)
    with Monitor(base) as monitor:
        monitor.sees(1)
        writer.train(2, 0.1)
        monitor.sees(3)
        other = Trainer(tmp_path / "third")
        other.write(step=90)
        trainer.path.unlink()
        trainer.path.symlink_to(other.path)
        monitor.sees(90)


def test_sigterm_and_sigint_end_it_with_zero_and_a_saved_state(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        trainer.train(1)
        with Monitor(tmp_path) as monitor:
            monitor.watching()
            trainer.train(1)
            monitor.sees(trainer.step)
            assert 0 == monitor.stop(number)
        saved = json.loads((tmp_path / ".smart_monitor" / "state.json").read_text())
        assert monitor.journal()[-1]["n"] == saved["number"]
    assert 2 == len(monitor.having("Smart Monitor stops"))


def test_a_copy_under_way_is_finished_within_the_grace(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1, size=3_000_000)
    with Monitor(tmp_path, settings={"SMART_MONITOR_COPY_RATE_MB": "2"}) as monitor:
        trainer.train(1)
        monitor.watching()
        trainer.write(float("nan"))
        until(lambda: list((tmp_path / "snapshots").glob(".partial-*")), "a copy")
        assert 0 == monitor.stop()
    [name] = monitor.snapshots()
    assert (tmp_path / "snapshots" / name / "model" / "checkpoint-1" / "model.safetensors").stat().st_size > 3_000_000
    assert monitor.having("Snapshot saved")


def test_a_copy_that_takes_too_long_is_abandoned_and_made_anew_after_the_next_start(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1, size=6_000_000)
    with Monitor(tmp_path, settings={"SMART_MONITOR_COPY_RATE_MB": "0.5", "SMART_MONITOR_STOP_GRACE": "0.2"}) as monitor:
        trainer.train(1)
        monitor.watching()
        trainer.write(float("nan"))
        until(lambda: list((tmp_path / "snapshots").glob(".partial-*")), "a copy")
        assert 0 == monitor.stop()
    assert [] == os.listdir(tmp_path / "snapshots")
    with Monitor(tmp_path) as monitor:
        until(monitor.snapshots, "the snapshot")
        until(lambda: monitor.having("Snapshot saved"), "word of it")
        assert 0 == monitor.stop()
    assert 1 == len(monitor.having("nan (critical)"))
    assert 0 == command("snapshots", "verify", "--base-dir", tmp_path).returncode


def test_sighup_reads_the_configuration_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    config = tmp_path / "smart_monitor.toml"
    with Monitor(tmp_path) as monitor:
        monitor.watching()
        config.write_text("loss_spike_treshold = 3\n")
        monitor.process.send_signal(signal.SIGHUP)
        line = monitor.says("old one stays")
        assert "did you mean 'loss_spike_threshold'?" in line
        config.write_text("loss_spike_threshold = 0.05\nnoise_guard = false\n")
        monitor.process.send_signal(signal.SIGHUP)
        monitor.says("Configuration read again")
        trainer.train(12, 0.1)
        trainer.write(0.8)
        until(lambda: "loss_spike" in monitor.findings(), "a spike by the new threshold")
        assert 0 == monitor.stop()


def test_a_second_monitor_ends_with_three_and_names_the_first(tmp_path: Path) -> None:
    Trainer(tmp_path).train(1)
    with Monitor(tmp_path) as first:
        first.watching()
        second = Monitor(tmp_path).start()
        assert 3 == second.wait()
        assert f"process {first.process.pid} on " in second.said
        assert "Traceback" not in second.said
        assert first.process.poll() is None


def test_one_daemon_watches_several_runs_and_a_run_held_by_another_is_left_to_it(tmp_path: Path) -> None:
    bases = [tmp_path / name for name in ("a", "b", "c")]
    trainers = [Trainer(base) for base in bases]
    for trainer in trainers:
        trainer.train(1)
    with Monitor(bases[0]).start().watching() as other, Monitor(*bases) as monitor:
        logs = [Monitor(base) for base in bases]
        for log, trainer in zip(logs[1:], trainers[1:], strict=True):
            log.sees(1)
            trainer.write(float("nan"))
            log.says("nan (critical)")
        until(lambda: "is already watched by" in monitor.said, "word of the first")
        assert monitor.process.poll() is None
        assert 0 == other.stop()
        until(lambda: len(logs[0].having("Resumed: ")) == 1, "the run taken over")
        assert 0 == monitor.stop()
    assert 1 == monitor.said.count("is already watched by")


def test_once_judges_what_stands_there_and_ends(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.write(float("nan"))
    trainer.checkpoint(1)
    time.sleep(1.2)  # until the checkpoint lies still
    done = Monitor(tmp_path, arguments=("--once",)).start()
    assert 0 == done.wait()
    assert ["nan"] == done.findings()
    assert 1 == len(done.snapshots())


def test_once_says_that_there_was_nothing_to_read(tmp_path: Path) -> None:
    assert 1 == Monitor(tmp_path, arguments=("--once",)).start().wait()
    assert 1 == Monitor(tmp_path / "nowhere", arguments=("--once",)).start().wait()
    assert not (tmp_path / "nowhere").exists()


def test_a_dry_run_tells_everything_and_writes_nothing(tmp_path: Path) -> None:
    base = tmp_path / "run"
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base, arguments=("--dry-run",), settings={"TMPDIR": str(tmp_path)}) as monitor:
        until(lambda: "Caught up" in monitor.said, "the first look")
        trainer.write(float("nan"))
        until(lambda: "[ALERT] Would keep a snapshot: nan" in monitor.said, "the alert")
        assert list(tmp_path.glob("smart-monitor-dry-*/logs/*.log"))
        assert f"watches {base}; a dry run, of which nothing is kept\n" in monitor.said
        assert 0 == monitor.stop()
    assert ["current_model", "status"] == sorted(os.listdir(base))
    assert [base] == list(tmp_path.iterdir())


def test_it_ends_when_the_run_is_done_and_keeps_the_last_promise_first(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1)
    with Monitor(tmp_path, arguments=("--exit-when-done",)) as monitor:
        trainer.train(1)
        monitor.sees(1)
        trainer.write(float("nan"))
        monitor.sees(2)
        trainer.write(float("nan"), status="completed")
        assert 0 == monitor.wait()
    assert 1 == len(monitor.snapshots())


def test_output_elsewhere_leaves_the_run_untouched(tmp_path: Path) -> None:
    base, out = tmp_path / "run", tmp_path / "deep" / "out"
    trainer = Trainer(base)
    with Monitor(base, out=out) as monitor:
        trainer.train(1)
        monitor.sees(1)
        trainer.write(float("nan"))
        until(monitor.snapshots, "a snapshot")
        code, document = status(base, out)
        assert (0, str(out)) == (code, document["vitals"]["out"])
        delete_by_hand(base)
        monitor.goes_on()
        assert not base.exists()
        assert 0 == monitor.stop()


def test_beside_checkpoints_in_the_base_directory_the_output_goes_to_its_sibling(tmp_path: Path) -> None:
    base, out = tmp_path / "hf", tmp_path / "hf.monitor"
    trainer = Trainer(base, layout=False)
    trainer.path = base / "training_status.json"
    shutil.move(Trainer(tmp_path / "x").checkpoint(5), base / "checkpoint-5")
    with Monitor(base, out=None) as monitor:
        monitor.out = out
        trainer.train(1)
        monitor.sees(1)
        trainer.write(float("nan"))
        until(monitor.snapshots, "a snapshot")
        assert str(out) in monitor.lines()[0]
        assert str(out) in command("status", "--base-dir", base).stdout
        assert 0 == monitor.stop()
    assert ["checkpoint-5", "training_status.json"] == sorted(os.listdir(base))


def test_after_a_kill_it_resumes_says_what_it_missed_and_tells_nothing_again(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    with Monitor(tmp_path) as monitor:
        trainer.train(1)
        monitor.watching()
        trainer.train(5, 0.1)
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        monitor.kill()
        before = monitor.alerts(), len(monitor.events()), monitor.snapshots()
        monitor.start()
        until(lambda: monitor.having("Resumed: "), "the restart")
        monitor.goes_on()
        assert before == (monitor.alerts(), len(monitor.events()), monitor.snapshots())
        monitor.kill()
        trainer.step += 40
        trainer.train(1)
        monitor.start()
        assert "between step 7 and step 48" in monitor.says("Not seen: ")
        assert 0 == monitor.stop()
    assert all(LINE.fullmatch(line) for line in monitor.lines())


def test_what_stands_there_at_first_contact_is_history(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.write(123.0, step=17500)
    trainer.checkpoint(17500)
    with Monitor(tmp_path) as monitor:
        monitor.says("Caught up: 1 record stood there already (step 17500)")
        monitor.goes_on()
        assert ([], [], []) == (monitor.alerts(), monitor.findings(), monitor.snapshots())


def test_a_nan_that_stands_there_at_first_contact_is_announced_once(tmp_path: Path) -> None:
    Trainer(tmp_path).write(float("nan"))
    with Monitor(tmp_path) as monitor:
        until(monitor.alerts, "an alert")
        monitor.goes_on()
        monitor.stop()
        monitor.start()
        until(lambda: len(monitor.having("Resumed: ")) == 1, "the restart")
        monitor.goes_on()
        assert 1 == len(monitor.alerts())
        assert [] == monitor.snapshots()


def test_a_file_torn_at_first_contact_is_history_once_it_is_whole(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.raw(b'{"current_step": 7, "lo', in_place=True)
    with Monitor(tmp_path) as monitor:
        monitor.goes_on()
        trainer.write(float("nan"), step=7)
        monitor.says("Caught up: 1 record")
        assert [] == monitor.findings()


def test_where_a_log_is_judged_the_status_that_stands_beside_it_is_kept_as_evidence(tmp_path: Path) -> None:
    trainer, log = Trainer(tmp_path), tmp_path / "metrics.jsonl"
    trainer.checkpoint(1)

    def step(number: int, loss: float) -> None:
        trainer.write(loss, step=number)
        with log.open("a") as lines:
            lines.write(json.dumps({"step": number, "loss": loss}) + "\n")

    step(1, 0.7)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        for number in range(2, 30):
            step(number, 0.7 + 0.01 * (number % 3))
            monitor.sees(number)
        step(30, 3.0)
        monitor.says("Snapshot saved")
        assert 0 == monitor.stop()
    [kept] = [tmp_path / "snapshots" / name for name in monitor.snapshots() if "loss_spike" in name]
    assert "loss" in json.loads((kept / "training_status.json").read_text())
    assert [] == [
        m for m in json.loads((kept / "metadata.json").read_text())["missing"] if m.get("path") == "training_status.json"
    ]


def test_where_the_trainer_writes_no_status_the_row_that_fired_is_kept_as_one(tmp_path: Path) -> None:
    Trainer(tmp_path).checkpoint(1)
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "loss": 0.7}\n')
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        with log.open("a") as lines:
            lines.write('{"step": 2, "train_loss": NaN, "lr": 0.25, "epoch": 0.5, "max_steps": 9, "dogs": null}\n')
        assert "missing" not in monitor.says("Snapshot saved")
        assert 0 == monitor.stop()
    [kept] = [tmp_path / "snapshots" / name for name in monitor.snapshots()]
    row = {"source": "jsonl", "step": 2, "epoch": 0.5, "total_steps": 9, "loss": "NaN", "learning_rate": 0.25}
    assert row == json.loads((kept / "training_status.json").read_text())
    assert 1 == command("replay", kept / "training_status.json").returncode  # it reads like any status


def test_a_monitor_that_resumes_before_the_first_record_says_nothing_of_a_step(tmp_path: Path) -> None:
    with Monitor(tmp_path) as monitor:
        monitor.goes_on(1)
        assert 0 == monitor.stop()
        monitor.start()
        assert monitor.says("Resumed: ").endswith("Resumed: 0 records in the journal")


def test_a_blind_monitor_says_why_in_one_sentence(tmp_path: Path) -> None:
    Trainer(tmp_path).raw(b"[1, 2]")
    with Monitor(tmp_path, settings={"SMART_MONITOR_BLIND_AFTER": "1"}) as monitor:
        assert "training_status.json holds a list where a training status is one JSON object. Run `smart" in monitor.says(
            "[ALERT]"
        )
