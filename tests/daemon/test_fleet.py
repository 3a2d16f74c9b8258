"""Many runs in one daemon: picked up, let go, taken up again; whatever befalls one of them, the others go on."""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.daemon.fleet import Candidate
from smart_monitor.daemon.loop import MANY, Daemon, share_of_first_tick
from smart_monitor.daemon.named import named
from smart_monitor.daemon.pool import Pool
from smart_monitor.daemon.run import Run
from smart_monitor.sources import Cursor, Pass, Sight
from tests.command_line import command
from tests.daemon.watching import Monitor, Trainer, serve
from tests.waiting import PATIENCE, until

COUNT = 50


class Fleet(Monitor):
    """A monitor of everything that a pattern names."""

    forked = False  # `stop` reads its command line

    def __init__(self, pattern: Path, *arguments: str) -> None:
        super().__init__(pattern.parent / "nobody", arguments=arguments)
        at = self._arguments.index("--base-dir")
        self._arguments[at : at + 2] = ["--runs", str(pattern)]


def test_the_ticks_of_many_runs_are_spread_over_the_interval_and_those_of_few_wait_for_its_end() -> None:
    assert {1.0} == {share_of_first_tick(n) for n in range(MANY + 1)}
    tenths = collections.Counter(int(10 * share_of_first_tick(n)) for n in range(MANY + 1, 1000))
    assert 10 == len(tenths)
    assert 90 <= min(tenths.values())
    assert 105 >= max(tenths.values())


def test_fifty_runs_are_watched_and_a_bad_one_disturbs_no_other(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    trainers = [Trainer(runs / f"run-{number:02}") for number in range(COUNT)]
    for trainer in trainers[:40]:
        trainer.train(3)
    logs = {trainer: Monitor(trainer.base) for trainer in trainers}
    corrupt, denied, deleted, odd = trainers[:4]
    good = trainers[4:40]
    with Fleet(runs / "*") as fleet:
        for trainer in trainers[:40]:
            logs[trainer].says("Caught up")
        corrupt.raw(b'["loss", 0.7]')
        denied.path.chmod(0)
        odd.path.unlink()
        odd.path.mkdir()
        shutil.rmtree(deleted.base)
        for trainer in trainers[40:]:  # they begin only now
            trainer.train(1)
            logs[trainer].sees(1)
        for trainer in good:
            trainer.write(float("nan"))
        for trainer in good:
            logs[trainer].says("nan (critical)")
        assert all(["nan"] == logs[t].findings() for t in good)
        for trainer in (corrupt, odd, *([denied] if os.geteuid() else [])):
            logs[trainer].says("Can't see: ")
        assert not deleted.base.exists()
        assert fleet.process.poll() is None
        assert 0 == fleet.stop()
    for trainer in good:
        assert "Smart Monitor stops" in logs[trainer].lines()[-1]


def test_a_run_that_is_over_is_let_go_and_taken_up_again_when_it_moves(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    trainer, other = Trainer(runs / "a"), Trainer(runs / "b")
    for each in (trainer, other):
        each.train(2)
    log = Monitor(trainer.base)
    with Fleet(runs / "*") as fleet:
        log.sees(2)
        trainer.write(0.7, step=2, status="completed")
        log.says("Let go: the run is over")
        held = str((tmp_path / "runs/a/.smart_monitor").resolve())
        until(lambda: not any(held in file for file in open_files(fleet.process.pid)), "its files to be closed")
        done = command("status", "--base-dir", trainer.base)
        assert (0, True) == (done.returncode, "resting. It was let go: the run is over." in done.stdout), done.stdout
        shown = command("status", "--runs", runs / "*", "--json")
        assert {"watching": 1, "resting": 1} == json.loads(shown.stdout)["counts"]
        assert re.search(rf"^watching +2  .* {other.base}$", command("status", "--runs", runs / "*").stdout, re.MULTILINE)
        trainer.write(0.7, step=3, in_place=True)
        log.sees(3)
        assert 1 == len(log.having("Caught up"))  # what came while it rested is news
        Monitor(other.base).sees(2)
        stopped = command("stop", "--runs", runs / "*")
        assert (0, f"Stopped process {fleet.process.pid}, which watched 2 runs.\n") == (stopped.returncode, stopped.stdout)
        assert 0 == fleet.wait()


def test_one_run_of_several_is_stopped_and_the_others_are_watched_on(tmp_path: Path) -> None:
    trainers = [Trainer(tmp_path / "runs" / name) for name in "abc"]
    a, b, c = (Monitor(trainer.base) for trainer in trainers)
    for trainer in trainers:
        trainer.train(2)
    with Fleet(tmp_path / "runs" / "*") as fleet:
        for log in (a, b, c):
            log.sees(2)
        stopped = command("stop", "--base-dir", trainers[0].base)
        pid = fleet.process.pid
        told = f"Stopped watching {trainers[0].base}. Process {pid} goes on with its 2 other runs; `kill {pid}` ends it.\n"
        assert (0, told) == (stopped.returncode, stopped.stdout)
        assert "Smart Monitor stops" in a.lines()[-1]
        assert "The monitor was stopped " in command("status", "--base-dir", trainers[0].base).stdout
        for trainer in trainers:
            trainer.train(1)
        b.sees(3)
        c.sees(3)
        time.sleep(1)  # a few looks at the directories
        assert "Smart Monitor stops" in a.lines()[-1], "what was stopped is not taken up again though it moves"
        told = command("stop", "--base-dir", trainers[1].base, "--base-dir", trainers[2].base).stdout
        assert f"Stopped watching 2 runs. Process {pid} goes on with looking for runs; `kill {pid}` ends it.\n" == told
        with Monitor(trainers[0].base) as alone:  # it is free for another monitor
            a.sees(3)
            assert f"Stopped process {alone.process.pid}.\n" == command("stop", "--base-dir", trainers[0].base).stdout
        assert 0 == fleet.stop()


def test_a_monitor_of_several_runs_ends_when_the_last_of_them_is_stopped(tmp_path: Path) -> None:
    bases = [tmp_path / "a", tmp_path / "b"]
    for base in bases:
        Trainer(base).train(2)
    with Monitor(*bases) as monitor:
        for base in bases:
            Monitor(base).sees(2)
        assert f"Stopped watching {bases[0]}." in command("stop", "--base-dir", bases[0]).stdout
        assert f"Stopped process {monitor.process.pid}.\n" == command("stop", "--base-dir", bases[1]).stdout
        assert 0 == monitor.wait()
    assert not [path for base in bases for path in base.rglob("stop")]


def open_files(pid: int) -> list[str]:
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    return found


def candidate(base: Path, taken_up: list[Path], settings: Settings | None = None) -> Candidate:
    """One that looks when it is told to."""
    pool = Pool(lambda error: pytest.fail(str(error)))
    return Candidate(base, lambda _: settings or Settings(), pool, 10.0, lambda c: taken_up.append(c.base), lambda *_: None)


def test_what_a_new_run_writes_deep_in_its_directory_is_met_at_the_next_look(tmp_path: Path) -> None:
    taken_up: list[Path] = []
    resting = candidate(tmp_path, taken_up)
    resting.work()
    version = tmp_path / "lightning_logs" / "version_0"
    version.mkdir(parents=True)
    resting.work()
    assert [] == taken_up
    (version / "metrics.csv").write_text("step,loss\n1,0.5\n")  # changes the time of no directory above
    resting.work()
    assert [tmp_path] == taken_up


def test_a_run_that_only_the_users_patterns_can_read_is_taken_up(tmp_path: Path) -> None:
    taken_up: list[Path] = []
    (tmp_path / "train.log").write_text("batch_no=1 cost=2.5\n")
    candidate(tmp_path, taken_up).work()
    assert [] == taken_up
    pattern = r"batch_no=(?P<step>\d+) cost=(?P<loss>\S+)"
    candidate(tmp_path, taken_up, Settings(log_patterns=(pattern,))).work()
    assert [tmp_path] == taken_up


def test_what_has_rested_for_days_or_holds_nothing_is_left_alone(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    old, now = Trainer(runs / "old"), Trainer(runs / "now")
    (runs / "data").mkdir()
    (runs / "data" / "table.bin").write_bytes(b"x")
    for trainer in (old, now):
        trainer.train(2)
    os.utime(old.path, (time.time() - 5 * 86400,) * 2)
    with Fleet(runs / "*") as fleet:
        Monitor(now.base).sees(2)
        old.write()
        Monitor(old.base).sees(3)
        assert 0 == fleet.stop()
    assert ["table.bin"] == os.listdir(runs / "data")
    assert 1 == len(Monitor(old.base).having("Caught up"))


def test_directories_of_ours_and_checkpoints_are_no_runs(tmp_path: Path) -> None:
    for name in (
        "a/.smart_monitor", "a/logs", "a/snapshots/anomaly_20251112_143022_nan", "a/checkpoint-500", "a/current_model",
        "a/fold_1", "a.monitor/logs", ".hidden", "b/logs",
    ):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    assert [tmp_path / "a", tmp_path / "b"] == named(f"{tmp_path}/*").bases
    assert [tmp_path / "a" / "fold_1", tmp_path / "b" / "logs"] == named(f"{tmp_path}/*/*").bases
    assert [] == named(f"{tmp_path}/a/snapshots/*").bases


def test_what_cannot_be_a_run_has_a_sentence_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments, said in (
        (("--base-dir", tmp_path / "file"), "is a file; --base-dir is a run's directory."),
        (("--once", "--runs", f"{tmp_path}/nothing-*"), "--runs names no directory."),
        (("--out", tmp_path / "x", "--runs", "*"), "--out is for one run"),
    ):
        done = command("watch", *arguments)
        assert (2, True) == (done.returncode, said in done.stderr), done.stderr


@pytest.fixture
def bases(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("a", "b", "c")]
    for base in made:
        Trainer(base).train(1)
    return made


@pytest.fixture
def runs(bases: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Run]]:
    """Three runs watched by a daemon of this process, whose reads are soon said to hang."""
    monkeypatch.setattr("smart_monitor.daemon.outlook.HUNG", 1.5)
    monkeypatch.setattr("smart_monitor.daemon.lane.AT_REST", 0.2)
    settings = Settings(poll_interval=0.2, watchdog=False)
    daemon = Daemon(bases, lambda _: settings, settings=settings)
    thread = threading.Thread(target=serve, args=(daemon,))
    thread.start()
    until(lambda: len(daemon._lanes) == 3 and all(lane.standing.met for lane in daemon._lanes), "all runs met")
    yield [lane.run for lane in daemon._lanes if lane.run is not None]
    daemon._stopping = True
    thread.join(PATIENCE)
    assert not thread.is_alive()


class Hanging:
    """A source on a mount that is dead until it is let go."""

    name = "status"

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()

    def unmoved(self, cursor: Cursor, now_mono: float) -> bool:
        self.begun.set()
        self.go.wait(60)
        return False

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        return Pass(cursor, Sight(True, "", "somewhere"))


def test_reads_that_hang_blind_their_own_run_and_no_other(bases: list[Path], runs: list[Run]) -> None:
    dead = [Hanging(), Hanging()]
    for run, source in zip(runs[:2], dead, strict=True):
        run.source.unmoved, run.source.read = source.unmoved, source.read  # type: ignore[method-assign]
        assert source.begun.wait(PATIENCE)
    for base in bases[:2]:
        until(lambda base=base: "does not return (a hung mount?)" in text(base), "word of it")
    trainer = Trainer(bases[2])
    trainer.step = 1
    for _ in range(3):
        trainer.train(1)
        until(lambda: f"Step {trainer.step} " in text(bases[2]), "the others' steps")
    for source in dead:
        source.go.set()
    for base in bases[:2]:
        until(lambda base=base: re.search(r"Reads \S+ again", text(base)), "sight again")


def test_a_write_that_hangs_holds_up_its_own_run_and_no_other(bases: list[Path], runs: list[Run]) -> None:
    go, begun = threading.Event(), threading.Event()
    append = runs[0].journal.append

    def hanging(*arguments: object) -> int:
        begun.set()
        go.wait(60)
        return append(*arguments)  # type: ignore[arg-type]

    runs[0].journal.append = hanging  # type: ignore[method-assign]
    assert begun.wait(PATIENCE)
    for base in bases[1:]:
        trainer = Trainer(base)
        trainer.step = 1
        trainer.train(1)
        until(lambda base=base: "Step 2 " in text(base), "the others' steps")
    go.set()


def text(base: Path) -> str:
    return "".join(path.read_text() for path in (base / "logs").glob("*.log"))
