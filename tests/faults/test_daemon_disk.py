"""Full disks, read-only places, files nobody may read: the daemon lives, says so once, and loses no line."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import command, status
from tests.daemon.watching import Monitor, Trainer
from tests.hands import delete_by_hand
from tests.waiting import until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> Path:
    """Take all the space there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def test_on_a_full_disk_it_lives_says_so_once_and_loses_no_line(tmp_path: Path, small_disk: Path) -> None:
    base, out = tmp_path / "run", small_disk / "out"
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base, out=out) as monitor:
        monitor.sees(1)
        trainer.train(8, 0.1)
        monitor.sees(9)
        filler = fill(small_disk)
        for _ in range(20):
            trainer.train(1)
            time.sleep(0.08)
        trainer.write(float("nan"))
        until(lambda: "nan (critical)" in monitor.said, "the alert on stderr")
        time.sleep(1.5)
        assert monitor.process.poll() is None
        filler.unlink()
        trainer.train(1)
        monitor.sees(31)
        assert "no line is lost" in monitor.says("written again")
        until(lambda: len(monitor.snapshots()) == 1, "the snapshot, late")
        until(lambda: monitor.having("Snapshot saved"), "word of it")
        assert 0 == monitor.stop()
    numbers = [line["n"] for line in monitor.journal()]
    assert list(range(1, len(numbers) + 1)) == numbers
    seen = [line["step"] for line in monitor.journal() if line["kind"] == "record"]
    assert sorted(set(seen)) == seen
    for step in seen:
        monitor.sees(step)
    assert 1 == len(monitor.having("nan (critical)"))
    assert 1 == len(monitor.having("] [ERROR] Journal, events or log can't be written"))
    assert monitor.told() == monitor.replayed()


def test_what_a_full_disk_refused_before_a_kill_is_told_after_the_restart(tmp_path: Path, small_disk: Path) -> None:
    base, out = tmp_path / "run", small_disk / "out"
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base, out=out) as monitor:
        monitor.sees(1)
        filler = fill(small_disk)
        trainer.write(float("nan"))
        until(lambda: "nan (critical)" in monitor.said, "the alert on stderr")
        assert 0 == monitor.stop()  # a polite end changes nothing: there is no space to be polite in
        filler.unlink()
    with monitor:
        until(lambda: "nan" in monitor.findings(), "the finding after the restart")
        until(lambda: monitor.having("nan (critical)"), "the alert")  # twice, if the log found room where the journal did not
        assert 0 == monitor.stop()
    assert 1 == monitor.findings().count("nan")
    assert monitor.told() == monitor.replayed()


def test_a_read_only_output_is_said_and_waited_for(tmp_path: Path, small_disk: Path) -> None:
    base, out = tmp_path / "run", small_disk / "out"
    Trainer(base).train(1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with Monitor(base, out=out) as monitor:
        until(lambda: "Read-only file system" in monitor.said, "the reason")
        time.sleep(1.5)
        assert monitor.process.poll() is None
        assert 1 == monitor.said.count("Read-only")
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        monitor.sees(1)
        assert 0 == monitor.stop()


def test_an_output_that_turns_read_only_under_it_is_survived(tmp_path: Path, small_disk: Path) -> None:
    base, out = tmp_path / "run", small_disk / "out"
    trainer = Trainer(base)
    trainer.train(1)
    with Monitor(base, out=out) as monitor:
        monitor.sees(1)
        (out / "logs").rename(out / "rotated")  # and with it every open file is one that nobody sees
        trainer.train(1)
        monitor.sees(2)
        delete_by_hand(out / ".smart_monitor" / "journal")
        trainer.train(1)
        monitor.sees(3)
        assert monitor.journal()
        assert 0 == monitor.stop()


def test_a_log_rotated_or_deleted_under_it_is_begun_anew(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path) as monitor:
        monitor.sees(1)
        [log] = (tmp_path / "logs").glob("*.log")
        log.rename(log.with_suffix(".old"))
        trainer.train(1)
        monitor.sees(2)
        assert "Step 1" not in monitor.text()


@pytest.mark.skipif(os.geteuid() != 0, reason="to lose the right to read takes another user, and that takes root")
def test_a_status_file_that_may_not_be_read_makes_it_blind_and_says_why(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if not os.stat(parent).st_mode & 1:
            parent.chmod(0o711)
    base, out = tmp_path / "run", tmp_path / "out"
    trainer = Trainer(base)
    trainer.train(1)
    trainer.path.chmod(0o600)
    out.mkdir()
    os.chown(out, 65534, 65534)
    nobody, soon = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"), {"SMART_MONITOR_BLIND_AFTER": "1"}
    with Monitor(base, out=out, prefix=nobody, settings=soon) as monitor:
        monitor.says("Permission denied")
        until(lambda: "blind" in monitor.findings(), "the finding")
        code, document = status(base, out)
        assert (1, "blind") == (code, document["health"])
        trainer.path.chmod(0o644)
        monitor.sees(1)
        assert 0 == monitor.stop()


def test_a_full_disk_at_the_start_is_waited_out(tmp_path: Path, small_disk: Path) -> None:
    base, out = tmp_path / "run", small_disk / "out"
    Trainer(base).train(1)
    filler = fill(small_disk)
    with Monitor(base, out=out) as monitor:
        time.sleep(1.5)
        assert monitor.process.poll() is None
        filler.unlink()
        monitor.sees(1)
        assert 0 == command("status", "--base-dir", base, "--out", out).returncode
        assert 0 == monitor.stop()
