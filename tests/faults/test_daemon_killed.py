"""kill -9 of the daemon at any moment, while the trainer goes on: nothing half, nothing twice, nothing forgotten.

SMART_MONITOR_DAEMON_KILLS sets the number of trials of the slow one (40 by default), SMART_MONITOR_KILL_SEED the moments.
"""

from __future__ import annotations

import collections
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from smart_monitor.snapshots.verify import verify
from tests.command_line import command
from tests.daemon.watching import LINE, Monitor, Trainer
from tests.waiting import until

TRIALS = int(os.environ.get("SMART_MONITOR_DAEMON_KILLS", "40"))
SEED = int(os.environ.get("SMART_MONITOR_KILL_SEED", str(random.randrange(2**32))))
SETTINGS = {"SMART_MONITOR_MIN_STEPS_BETWEEN_SAVES": "20"}


class Training(threading.Thread):
    """A run that misbehaves: spikes, NaN, states, checkpoints that rotate."""

    def __init__(self, base: Path, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.trainer, self.chance, self.over = Trainer(base), chance, threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.chance.choice((0.004, 0.02, 0.05))):
            step, luck = self.trainer.step + 1, self.chance.random()
            loss = 0.7 + 0.02 * self.chance.random()
            if luck < 0.05:
                loss = float("nan")
            elif luck < 0.10:
                loss *= 3
            if luck > 0.97:
                self.trainer.write(loss, status="idle")
            self.trainer.write(round(loss, 4), in_place=luck > 0.9)
            if step % 25 == 0:
                self.trainer.checkpoint(step, size=200_000)


@pytest.mark.timeout(400 + 10 * TRIALS)
@pytest.mark.parametrize("trials", [15, pytest.param(TRIALS, marks=pytest.mark.slow)])
def test_whenever_the_daemon_is_killed_nothing_is_half_nothing_twice_and_nothing_forgotten(tmp_path: Path, trials: int) -> None:
    chance = random.Random(SEED)
    training = Training(tmp_path, random.Random(SEED + 1))
    training.start()
    monitor = Monitor(tmp_path, settings=SETTINGS)
    seen: set[str] = set()
    for trial in range(trials):
        before = len(monitor.having("Smart Monitor 0"))
        with monitor:
            until(lambda: len(monitor.having("Smart Monitor 0")) > before or monitor.process.poll() is not None)  # noqa: B023
            time.sleep(chance.choice((0.0, 0.1, 0.4, 0.8)) * chance.random())
            monitor.kill()
        for name in set(monitor.snapshots()) - seen:
            assert [] == verify(tmp_path / "snapshots" / name), f"seed {SEED}, trial {trial}"
            seen.add(name)
    training.over.set()
    training.join()
    before = len(monitor.having("Smart Monitor 0"))
    with monitor:
        # Everything may have been seen and kept by those before: SIGTERM must find one that listens already.
        until(lambda: len(monitor.having("Smart Monitor 0")) > before)
        monitor.sees(training.trainer.step)
        training.trainer.write(float("nan"))  # lives as short as these may have met nothing worth telling
        monitor.sees(training.trainer.step)
        until(lambda: monitor.events("finding"), "word of it")
        until(lambda: not list((tmp_path / ".smart_monitor" / "intents").glob("*")), "every promise kept", 240)
        monitor.goes_on(ticks=2)
        assert 0 == monitor.stop()
    says_so(monitor, f"seed {SEED}")


def says_so(monitor: Monitor, seed: str) -> None:
    """What must hold of a run directory whatever happened to its monitor."""
    assert all(LINE.fullmatch(line) for line in monitor.lines()), seed
    journal = monitor.journal()
    assert list(range(1, len(journal) + 1)) == [line["n"] for line in journal], seed
    records = [line for line in journal if line["kind"] == "record"]
    assert list(range(len(records))) == [line["index"] for line in records], seed
    steps = [line["step"] for line in records]
    assert len(set(steps)) == len(steps), f"{seed}: {collections.Counter(steps).most_common(2)}"
    told = collections.Counter((e["event"], e["id"], e.get("state"), e.get("seq")) for e in monitor.events())
    assert 1 == max(told.values()), f"{seed}: {told.most_common(3)}"
    assert monitor.told() == command("replay", monitor.out, "--format", "jsonl", settings=SETTINGS).stdout, seed
    alerts = collections.Counter(line.partition("] [ALERT] ")[2] for line in monitor.alerts())
    expected = {
        e["step"] for e in monitor.events("finding") if e["severity"] != "info" and not e["historical"] and e["step"] is not None
    }
    twice = [text for text, number in alerts.items() if number > 1 and text.startswith(("Step", "Snapshot"))]
    assert [] == twice, seed
    alerted = {int(text.split(":")[0][5:]) for text in alerts if text.startswith("Step ")}
    assert expected == alerted, seed
    kept = collections.Counter(
        json.loads((monitor.out / "snapshots" / name / "metadata.json").read_text())["id"] for name in monitor.snapshots()
    )
    assert 1 == max(kept.values()), seed
    published = {e["id"] for e in monitor.events("snapshot") if e["state"] == "published"}
    assert published == set(kept), seed


@pytest.mark.parametrize(
    "damage", ["schema", "gone", *(pytest.param(d, marks=pytest.mark.slow) for d in ("garbage", "empty", "half"))]
)
def test_a_state_that_cannot_be_used_is_set_aside_and_the_journal_folded_anew(tmp_path: Path, damage: str) -> None:
    trainer = Trainer(tmp_path)
    trainer.checkpoint(1)
    monitor = Monitor(tmp_path)
    with monitor:
        trainer.train(1)
        monitor.sees(1)
        trainer.train(6, 0.05)
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        assert 0 == monitor.stop()
    before = monitor.alerts(), len(monitor.events()), monitor.snapshots(), monitor.journal()[-1]["n"]
    path = tmp_path / ".smart_monitor" / "state.json"
    document = json.loads(path.read_text())
    match damage:
        case "schema":
            path.write_text(json.dumps(document | {"schema": 2}))
        case "garbage":
            path.write_bytes(b"\xff\x00garbage")
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_text(json.dumps(document | {"engine": {"schema": 1, "ranks": {"0": {}}}}))
        case _:
            path.unlink()
    with monitor:
        until(lambda: monitor.having("Resumed: "), "the restart")
        monitor.goes_on()
        trainer.train(1)
        monitor.sees(9)
        assert 0 == monitor.stop()
    assert before[:3] == (monitor.alerts(), len(monitor.events()) - _resolved(monitor), monitor.snapshots())
    assert (damage == "gone") == (not monitor.having("it is set aside as state.unusable-"))
    says_so(monitor, damage)


def _resolved(monitor: Monitor) -> int:
    return sum(e["state"] != "opened" for e in monitor.events("incident"))


def test_state_and_events_lost_together_alarm_nobody_about_the_past(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    monitor = Monitor(tmp_path)
    with monitor:
        trainer.train(1)
        monitor.sees(1)
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        assert 0 == monitor.stop()
    alerts = monitor.alerts()
    (tmp_path / ".smart_monitor" / "state.json").unlink()
    (tmp_path / "logs" / "events.jsonl").unlink()
    with monitor:
        monitor.says("nobody knows what was told")
        monitor.goes_on()
        assert 0 == monitor.stop()
    assert alerts == monitor.alerts()
    assert 1 == len(monitor.snapshots())


def test_steps_that_were_judged_and_not_logged_before_a_kill_are_told_after_it(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    monitor = Monitor(tmp_path)
    with monitor:
        for step in range(1, 7):
            trainer.train(1)
            monitor.sees(step)
        monitor.kill()
    [log] = (tmp_path / "logs").glob("*.log")
    text = log.read_text()
    log.write_text(text[: text.index("Monitoring: Step 4")])  # as if it had been killed between the journal and the log
    (tmp_path / ".smart_monitor" / "state.json").unlink(missing_ok=True)
    with monitor:
        until(lambda: monitor.having("Resumed: "), "the restart")
        assert 0 == monitor.stop()
    assert 1 == len(monitor.having("Monitoring: Step 4–6 (3 records)"))
    assert 4 == len(monitor.having("Monitoring: Step "))


def test_a_line_cut_off_by_a_kill_is_made_good(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    monitor = Monitor(tmp_path)
    with monitor:
        trainer.train(1)
        monitor.sees(1)
        trainer.write(float("nan"))
        monitor.says("Snapshot saved")
        monitor.kill()
    # As if it had been killed between the finding's event and the finding's line in the log.
    events, [log] = tmp_path / "logs" / "events.jsonl", sorted((tmp_path / "logs").glob("*.log"))
    first = events.read_bytes().split(b"\n")[0] + b"\n"
    events.write_bytes(first + b'{"event": "incident", "to')
    text = log.read_text()
    log.write_text(text[: text.index("[ALERT]") + 12])
    (tmp_path / ".smart_monitor" / "state.json").unlink(missing_ok=True)
    with monitor:
        until(lambda: monitor.having("Resumed: "), "the restart")
        assert 0 == monitor.stop()
    assert 1 == len(monitor.having("nan (critical)"))
    says_so(monitor, "cut off")
