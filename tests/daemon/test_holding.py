"""Holds as a real monitor takes them beside a trainer that rotates: how soon, how many, and what survives."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import ROOT, command, environment, status
from tests.daemon.watching import Monitor, Trainer
from tests.hands import delete_by_hand
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)

SAVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.daemon.watching import Trainer
base, keep, count, size, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
trainer = Trainer(base)
trainer.step = 1
for number in range(1, count + 1):
    began = time.monotonic()
    trainer.checkpoint(100 * number, keep=keep, size=size)
    # 12 quiet steps that the monitor has to judge, and now and then one that it will not like
    trainer.write(float("nan") if number % 5 == 0 else 0.7 + 0.01 * (number % 3), step=100 * number)
    time.sleep(max(0.0, began + pause - time.monotonic()))
"""


def saver(base: Path, *, keep: int, count: int, size: int, pause: float = 0.3) -> subprocess.Popen[bytes]:
    """A trainer process of its own that saves every `pause` seconds and keeps `keep` checkpoints."""
    arguments = [str(base), str(keep), str(count), str(size), str(pause)]
    return subprocess.Popen([sys.executable, "-c", SAVER.format(root=str(ROOT)), *arguments], env=environment())


def held(monitor: Monitor) -> dict[str, dict[str, object]]:
    """What `status` says is held, by name."""
    _, document = status(monitor.bases[0], monitor.out if monitor.out != monitor.bases[0] else None)
    return {h["name"]: h for h in document["vitals"]["holds"]["held"]}


def folders(base: Path) -> list[str]:
    """Names of the checkpoints whose holds are described on the disk."""
    found = []
    for path in (base / ".smart_monitor" / "holds").glob("hold-*/hold.json"):
        with contextlib.suppress(FileNotFoundError):  # given back meanwhile
            found.append(json.loads(path.read_text())["name"])
    return sorted(found)


def test_a_checkpoint_is_pinned_as_soon_as_its_marker_is_there_however_long_the_poll_interval(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path, settings={"SMART_MONITOR_POLL_INTERVAL": "600"}) as monitor:
        monitor.sees(1)
        holds = tmp_path / ".smart_monitor" / "holds"
        for step in (100, 200, 300):
            trainer.checkpoint(step, keep=9)
            until(lambda step=step: list(holds.glob(f"hold-checkpoint-{step}-*/files/trainer_state.json")), f"the pin of {step}")
        until(lambda: len(folders(tmp_path)) == 3, "three holds")


def test_the_ring_is_the_last_three_and_status_shows_them(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        for step in (100, 200, 300, 400, 500):
            trainer.checkpoint(step, keep=1)
            until(lambda step=step: f"checkpoint-{step}" in folders(tmp_path), f"the hold on {step}")
        # The first waits for the proof that it is good; the others are the newest.
        expected = ["checkpoint-100", "checkpoint-300", "checkpoint-400", "checkpoint-500"]
        until(lambda: folders(tmp_path) == expected, "the ring")
        until(lambda: sorted(held(monitor)) == expected, "the ring in the status")
        shown = command("status", "--base-dir", tmp_path).stdout
        assert re.search(r"held +checkpoint-500 \(step 500, 4\.\d KiB, (a hard link|a clone), complete .*\)\n", shown), shown
        assert held(monitor)["checkpoint-500"]["source"] == str(tmp_path / "current_model" / "checkpoint-500")


def test_fifty_quiet_records_prove_a_checkpoint_good_and_an_anomaly_then_keeps_it_as_well(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(12, 0.03)
    with Monitor(tmp_path) as monitor:
        monitor.sees(12)
        trainer.checkpoint(12, keep=1)
        until(lambda: "checkpoint-12" in folders(tmp_path), "the hold")
        until(lambda: trainer.train(1) or held(monitor).get("checkpoint-12", {}).get("good"), "the good slot")
        assert trainer.step >= 12 + 50
        trainer.checkpoint(trainer.step, keep=1)
        until(lambda: f"checkpoint-{trainer.step}" in folders(tmp_path), "the second hold")
        newest = trainer.step
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        [name] = monitor.snapshots()
    document = json.loads((tmp_path / "snapshots" / name / "metadata.json").read_text())
    onset = newest + 1
    assert (f"checkpoint-{newest}", newest) == (document["checkpoint"]["name"], document["checkpoint"]["step"])
    assert ["name", "source", "step", "layout", "complete_by", "steps_before_onset"] == list(document["last_good"])
    assert ("checkpoint-12", onset - 12) == (document["last_good"]["name"], document["last_good"]["steps_before_onset"])
    assert str(tmp_path / "current_model" / "checkpoint-12") == document["last_good"]["source"]
    assert (tmp_path / "snapshots" / name / "last_good" / "checkpoint-12" / "trainer_state.json").is_file()
    assert f"Resume from checkpoint-{newest} (step {newest}); look at step {onset}." == document["rollback"]["text"]
    assert 0 == command("snapshots", "verify", "--base-dir", tmp_path).returncode


def test_a_best_model_takes_the_checkpoint_that_is_written_next_as_well_if_it_is_nearer(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.write(0.9, step=1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        trainer.checkpoint(1, keep=1)
        until(lambda: "checkpoint-1" in folders(tmp_path), "the hold")
        for step in range(2, 12):
            trainer.write(0.9 + 0.001 * (step % 3), step=step)
            monitor.sees(step)
        trainer.write(0.2, step=12)
        monitor.says("Snapshot saved")
        trainer.checkpoint(13, keep=1)
        until(lambda: len(monitor.having("Snapshot saved")) == 2, "the snapshot of the nearer one")
        trainer.checkpoint(14, keep=1)
        until(lambda: "checkpoint-14" in folders(tmp_path), "the hold on a third")
        names = monitor.snapshots()
    documents = [json.loads((tmp_path / "snapshots" / n / "metadata.json").read_text()) for n in names]
    assert ["best_model_loss_0.2000", "best_model_loss_0.2000_nearer"] == sorted(d["reason"] for d in documents)
    assert {1, 13} == {d["checkpoint"]["step"] for d in documents}
    assert all(d["last_good"] is None and d["rollback"] is None and d["step"] == 12 for d in documents)
    assert 2 == len({d["id"] for d in documents})


def killed_while_copying(tmp_path: Path, *earlier: int) -> Trainer:
    """A monitor is killed while it copies checkpoint-500 for a NaN; checkpoints `earlier` stand beside it."""
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path, settings={"SMART_MONITOR_COPY_RATE_MB": "0.1"}) as monitor:
        monitor.sees(1)
        for step in earlier:
            trainer.checkpoint(step)
        trainer.checkpoint(500, size=400_000)
        until(lambda: "checkpoint-500" in folders(tmp_path), "the hold")
        trainer.write(float("nan"))
        until(lambda: list((tmp_path / "snapshots").glob(".partial-*/model/checkpoint-500/*")), "the copy")
        monitor.kill()
    return trainer


def test_a_promise_outlives_a_kill_and_its_hold_outlives_the_rotation(tmp_path: Path) -> None:
    trainer = killed_while_copying(tmp_path)
    intents = [json.loads(p.read_text()) for p in (tmp_path / ".smart_monitor" / "intents").glob("*.json")]
    assert [True] == [i["needs"]["hold"].startswith("hold-checkpoint-500-") for i in intents]
    trainer.checkpoint(550, keep=1)  # a later one is not what the promise was about
    time.sleep(1.5)
    assert not (tmp_path / "current_model" / "checkpoint-500").exists()
    with Monitor(tmp_path) as monitor:
        for step in (600, 700, 800, 900, 1000):  # the ring goes on, the promised one stays
            trainer.checkpoint(step, keep=1)
        monitor.says("Snapshot saved")
        [name] = monitor.snapshots()
        until(lambda: "checkpoint-500" not in folders(tmp_path) or len(folders(tmp_path)) <= 4, "what is no longer needed to go")
    document = json.loads((tmp_path / "snapshots" / name / "metadata.json").read_text())
    assert "checkpoint-500" == document["checkpoint"]["name"]
    assert str(tmp_path / "current_model" / "checkpoint-500") == document["checkpoint"]["source"]


def test_a_promised_hold_that_someone_deleted_is_a_loss_and_told_aloud(tmp_path: Path) -> None:
    killed_while_copying(tmp_path)
    delete_by_hand(tmp_path / "current_model" / "checkpoint-500")
    delete_by_hand(tmp_path / ".smart_monitor" / "holds")
    with Monitor(tmp_path) as monitor:
        monitor.says("Snapshot saved")
        until(lambda: "checkpoint_lost" in monitor.findings(), "the finding")
        [name] = monitor.snapshots()
    assert ["lost", "published"] == [e["state"] for e in monitor.events("snapshot")]
    document = json.loads((tmp_path / "snapshots" / name / "metadata.json").read_text())
    words = "the checkpoint that was held for it was overwritten or taken away, and there is no other"
    assert {"what": "checkpoint", "why": words} in document["missing"]


def test_where_another_took_the_place_of_a_promised_hold_the_snapshot_says_so(tmp_path: Path) -> None:
    killed_while_copying(tmp_path, 400)
    delete_by_hand(tmp_path / "current_model" / "checkpoint-500")
    delete_by_hand(tmp_path / ".smart_monitor" / "holds")
    with Monitor(tmp_path) as monitor:
        monitor.says("Snapshot saved")
        [name] = monitor.snapshots()
    document = json.loads((tmp_path / "snapshots" / name / "metadata.json").read_text())
    assert "checkpoint-400" == document["checkpoint"]["name"]
    words = "the hold on the checkpoint chosen when the decision fell was overwritten or taken away; another took its place"
    assert {"what": "first choice", "why": words} in document["missing"]


def test_what_is_held_is_given_back_when_the_run_completes(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        trainer.checkpoint(100)
        until(lambda: folders(tmp_path), "the hold")
        trainer.raw(b'{"status": "completed", "current_step": 2, "loss": 0.7}')
        until(lambda: not list((tmp_path / ".smart_monitor" / "holds").glob("hold-*")), "the giving back")
        until(lambda: not list((tmp_path / ".smart_monitor" / "holds").glob(".trash-*")), "the deletion")
        assert (tmp_path / "current_model" / "checkpoint-100" / "trainer_state.json").is_file()


def race(base: Path, *, keep: int, count: int, size: int, settings: dict[str, str] | None = None) -> Monitor:
    """A monitor beside a saver from its first save to its last; what it was told is in its log."""
    Trainer(base).train(1)
    with Monitor(base, settings={"SMART_MONITOR_HOLD_RING": "3"} | (settings or {})) as monitor:
        monitor.sees(1)
        trainer = saver(base, keep=keep, count=count, size=size)
        assert 0 == trainer.wait(200)
        monitor.sees(100 * count)
        until(
            lambda: not list((base / ".smart_monitor" / "intents").glob("*.json")), "every promise to be kept", 150
        )  # by a process of low priority
        until(lambda: (status(base)[1]["vitals"]["holds"]["met"]) >= 1, "the status")
        assert 0 == monitor.stop()
    return monitor


def require_the_newest_kept(base: Path, monitor: Monitor, behind: int) -> None:
    """Every snapshot holds a whole checkpoint, at most so many steps behind the record that fired."""
    assert 0 == command("snapshots", "verify", "--base-dir", base).returncode
    assert len(monitor.snapshots()) >= 1
    for name in monitor.snapshots():
        document = json.loads((base / "snapshots" / name / "metadata.json").read_text())
        assert document["checkpoint"] is not None, document["missing"]
        assert document["step"] - document["checkpoint"]["step"] <= behind, document["checkpoint"]
        weights = (base / "snapshots" / name / "model" / document["checkpoint"]["name"] / "model.safetensors").read_bytes()
        assert set(weights[-1000:]) == {document["checkpoint"]["step"] % 251}


@pytest.mark.parametrize(("count", "size"), [pytest.param(12, 1_000_000), pytest.param(40, 50_000_000, marks=pytest.mark.slow)])
def test_a_trainer_that_keeps_five_and_saves_every_300_ms_loses_no_flagged_checkpoint(
    tmp_path: Path, count: int, size: int
) -> None:
    monitor = race(tmp_path, keep=5, count=count, size=size)
    require_the_newest_kept(tmp_path, monitor, behind=1000)
    assert [] == [e for e in monitor.events("snapshot") if e["state"] in ("lost", "failed")]


def test_a_trainer_that_keeps_one_and_saves_every_300_ms_is_told_as_a_share(tmp_path: Path) -> None:
    Trainer(tmp_path).train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        assert 0 == saver(tmp_path, keep=1, count=10, size=2_000_000).wait(100)
        monitor.sees(1000)
        until(lambda: "checkpoint-1000" in held(monitor), "the last one, which nobody rotates, to be held")
        assert 0 == monitor.stop()  # what it held may still grow; once it has ended, both readings are of one moment
        holds = status(tmp_path)[1]["vitals"]["holds"]
        shown = command("status", "--base-dir", tmp_path).stdout
    assert 1 <= holds["kept"] <= holds["met"] <= 11
    if holds["kept"] < holds["met"]:
        assert f"{holds['kept']} of {holds['met']} checkpoints seen could be held in time" in shown
    assert len(monitor.having("[WARNING]")) < 10


def test_killed_again_and_again_in_mid_hold_it_leaves_nothing_and_takes_over_what_is_whole(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    process = saver(tmp_path, keep=3, count=30, size=500_000, pause=0.2)
    try:
        monitor = Monitor(tmp_path)
        for life in range(5):
            with monitor.start():
                until(lambda life=life: len(monitor.having("Reads ")) > life, "the look")
                time.sleep(0.7)
                monitor.process.send_signal(signal.SIGKILL)
                monitor.wait()
    finally:
        process.wait(120)
    with Monitor(tmp_path) as monitor:
        until(lambda: "checkpoint-3000" in folders(tmp_path), "the last checkpoint to be held")
        holds = tmp_path / ".smart_monitor" / "holds"
        until(lambda: len(list(holds.iterdir())) == len(folders(tmp_path)) <= 5, "nothing else to lie there")
        for told in holds.glob("hold-*/hold.json"):
            step = json.loads(told.read_text())["step"]
            assert set((told.parent / "files" / "model.safetensors").read_bytes()[-1000:]) == {step % 251}
    assert sorted(os.listdir(tmp_path / "current_model")) == ["checkpoint-2800", "checkpoint-2900", "checkpoint-3000"]
