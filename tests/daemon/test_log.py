"""The log: its form, its dates, ranges, and nothing forged."""

from __future__ import annotations

import io
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.daemon.log import LIMIT, Log
from smart_monitor.linefile import BACKLOG, LineFile, cut_torn_tail
from smart_monitor.model import Record
from tests.daemon.watching import LINE


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def record(step: int) -> Record:
    return Record("r", "status", step, step=step)


def test_each_line_stands_in_the_file_of_its_own_local_date(tmp_path: Path, berlin: None) -> None:
    clock = Clock(1762988399.0)  # 2025-11-12 23:59:59 in Berlin, an hour earlier in UTC
    log = Log(None, clock)
    log.open(tmp_path)
    log.info("late")
    clock.now += 1
    log.info("early")
    clock.now -= 3600  # set back
    log.info("late again")
    log.close()
    assert (
        "[2025-11-12 23:59:59] [INFO] late\n[2025-11-12 23:00:00] [INFO] late again\n"
        == (tmp_path / "smart_monitor_20251112.log").read_text()
    )
    assert "[2025-11-13 00:00:00] [INFO] early\n" == (tmp_path / "smart_monitor_20251113.log").read_text()


def test_a_step_line_is_what_people_grep_for(tmp_path: Path) -> None:
    log = Log(None)
    log.open(tmp_path)
    log.step(record(17500), 17500, {"loss": 0.7421, "accuracy": 75.3, "learning_rate": 2e-4, "other": 1.0})
    log.close()
    [path] = tmp_path.iterdir()
    assert path.read_text().endswith("[INFO] Monitoring: Step 17500 loss=0.7421 accuracy=75.3 lr=0.0002\n")


def test_above_fifty_steps_a_second_ranges_stand_before_what_comes_after_them(tmp_path: Path) -> None:
    clock = Clock(1e9)
    log = Log(None, clock)
    log.open(tmp_path)
    for step in range(1, 201):
        log.step(record(step), step, {})
    assert log.waiting
    log.alert("loss_spike")
    for step in range(201, 260):
        log.step(record(step), step, {})
    clock.now += 1
    log.step(record(260), 260, {})
    log.close()
    lines = [line.partition("] [")[2] for line in next(tmp_path.iterdir()).read_text().splitlines()]
    assert [f"INFO] Monitoring: Step {n}" for n in range(1, 51)] == lines[:50]
    assert [
        "INFO] Monitoring: Step 51–200 (150 records)", "ALERT] loss_spike", "INFO] Monitoring: Step 201–259 (59 records)",
        "INFO] Monitoring: Step 260",
    ] == lines[50:]  # fmt: skip


@given(st.text(), st.sampled_from(["INFO", "WARNING", "ERROR", "ALERT"]))
def test_whatever_is_said_is_one_line_of_the_form(text: str, level: str) -> None:
    written: list[str] = []
    log = Log(None)
    log._file = type("File", (), {"append": lambda _, __, line: written.append(line)})()  # type: ignore[assignment]
    log.say(level, "x" + text)
    [line] = written
    assert [line] == line.splitlines()
    assert LINE.fullmatch(line)
    assert len(line) <= LIMIT + 40


def test_a_terminal_that_went_away_does_not_silence_the_file(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    log = Log(Gone())
    log.open(tmp_path)
    log.info("one")
    log.info("two")
    log.close()
    assert 2 == len(next(tmp_path.iterdir()).read_text().splitlines())


def test_it_knows_whether_a_line_stands_at_its_end(tmp_path: Path) -> None:
    log = Log(None)
    log.open(tmp_path)
    log.alert("Step 7: nan\n(critical)")
    assert log.holds("Step 7: nan\n(critical)")
    assert not log.holds("Step 8: nan (critical)")
    log.close()


def test_it_knows_the_last_step_that_it_told_of(tmp_path: Path) -> None:
    clock = Clock(1762988399.0)
    log = Log(None, clock)
    log.open(tmp_path)
    assert log.last_step() is None
    log.step(record(7), 7, {"loss": 0.7})
    assert 7 == log.last_step()
    log.range(8, 90, 83)
    log.info("[INFO] Monitoring: Step 99 says the trainer")
    assert 90 == log.last_step()
    clock.now += 86_400
    log.info("a new day, and no step yet")
    assert 90 == log.last_step()
    log.close()


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_cutting_a_torn_tail_keeps_every_whole_line_and_nothing_else(whole: bytes, torn: bytes) -> None:
    torn = torn.replace(b"\n", b"")
    whole = whole + b"\n" if whole else b""
    path = Path(tempfile.gettempdir()) / f"cut-{os.getpid()}"
    path.write_bytes(whole + torn)
    cut_torn_tail(path)
    assert whole == path.read_bytes()
    path.unlink()


def test_lines_wait_while_the_directory_is_away_and_the_oldest_of_too_many_are_counted(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "not" / "there")
    for number in range(BACKLOG + 5):
        lines.append("a", str(number))
    assert lines.trouble
    assert 5 == lines.lost
    (tmp_path / "not").mkdir()
    lines.flush()
    assert "" == lines.trouble
    assert [str(n) for n in range(5, BACKLOG + 5)] == (tmp_path / "not" / "there" / "a").read_text().split()
    lines.close()


def test_a_torn_line_is_cut_before_the_next_one_is_added(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"whole\nto")
    lines = LineFile(tmp_path)
    lines.append("a", "next")
    lines.close()
    assert "whole\nnext\n" == (tmp_path / "a").read_text()


@pytest.mark.parametrize("cut", [True, False], ids=["cut at once", "not cut either"])
def test_a_line_for_which_there_is_only_half_the_room_is_whole_once_there_is_more(tmp_path: Path, cut: bool) -> None:
    lines = LineFile(tmp_path)
    lines.append("a", "first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        if not cut:
            patch.setattr(os, "ftruncate", refused)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            for text in ("second", "third"):
                lines.append("a", text)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert lines.trouble
    assert cut == (b"first\n" == (tmp_path / "a").read_bytes())
    lines.append("a", "fourth")
    assert "" == lines.trouble
    assert "first\nsecond\nthird\nfourth\n" == (tmp_path / "a").read_text()
    lines.close()


def refused(*_: object) -> None:
    raise OSError(28, "No space left on device")
