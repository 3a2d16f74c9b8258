"""A copy gives way to others who write, and only to them."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from smart_monitor.snapshots.pace import AFTERWARDS, LONGEST, LOOK, MUCH, PAGE, REST, Neighbours, Pace

SAVE = 4 * MUCH
"""Bytes that somebody dirties between two looks."""


class Kernel:
    """/proc/vmstat, and a clock that only this test moves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.now, self.dirtied, self.slept = path, 1000.0, 0, 0.0
        self.dirty(0)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def dirty(self, amount: int) -> None:
        self.dirtied += amount
        self.path.write_text(f"nr_free_pages 12\nnr_dirtied {self.dirtied // PAGE}\nnr_written 3\n")

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path / "vmstat", monkeypatch)


def copied(kernel: Kernel, pace: Pace, seconds: float, others: int) -> float:
    """Copy for so many seconds (MUCH bytes each LOOK), while others dirty `others` bytes a second; the seconds it took."""
    began = kernel.now
    for _ in range(round(seconds / LOOK)):
        kernel.now += LOOK + 0.001
        kernel.dirty(MUCH + int(others * LOOK))
        pace.spent(MUCH, MUCH)
    return kernel.now - began


def test_while_others_save_it_goes_at_a_quarter_of_its_speed(kernel: Kernel) -> None:
    pace = Pace(0, lambda _: None, Neighbours(str(kernel.path)))
    took = copied(kernel, pace, 2.0, others=100 * MUCH)
    assert 2.0 * (1 + REST) * 0.9 <= took <= 2.0 * (1 + REST) * 1.1


def test_on_a_slow_disk_it_is_a_quarter_as_well(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece takes five seconds there, just because others write."""
    pace, said = Pace(0, lambda _: said.append(kernel.now), Neighbours(str(kernel.path))), list[float]()
    began, sleep = kernel.now, kernel.sleep

    def save_on(seconds: float) -> None:
        kernel.dirty(int(100 * MUCH * seconds))
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", save_on)
    for _ in range(4):
        kernel.dirty(500 * MUCH)
        kernel.now += 5.0
        pace.spent(MUCH, MUCH)
    assert 20.0 * (1 + REST) * 0.9 <= kernel.now - began <= 20.0 * (1 + REST) * 1.1
    assert max(b - a for a, b in pairwise(said)) <= 5.0 + LONGEST


def test_it_goes_on_as_soon_as_the_others_are_done(kernel: Kernel) -> None:
    pace = Pace(0, lambda _: None, Neighbours(str(kernel.path)))
    kernel.dirty(500 * MUCH)
    kernel.now += 5.0
    pace.spent(MUCH, MUCH)
    assert kernel.slept <= AFTERWARDS + LONGEST


def test_while_others_save_a_rate_is_a_quarter_of_what_it_is_otherwise(kernel: Kernel) -> None:
    rate = MUCH / LOOK / 5
    alone = copied(kernel, Pace(rate, lambda _: None, Neighbours(str(kernel.path))), 4.0, others=0)
    beside = copied(kernel, Pace(rate, lambda _: None, Neighbours(str(kernel.path))), 4.0, others=100 * MUCH)
    assert 20.0 * 0.9 <= alone <= 20.0 * 1.1
    assert 20.0 * (1 + REST) * 0.9 <= beside <= 20.0 * (1 + REST) * 1.1


def test_what_may_be_overwritten_any_moment_gives_way_to_nobody(kernel: Kernel) -> None:
    pace = Pace(0, lambda _: None, Neighbours(str(kernel.path)))
    pace.hurry = True
    copied(kernel, pace, 2.0, others=100 * MUCH)
    assert 0.0 == kernel.slept
    pace.hurry = False
    copied(kernel, pace, 2.0, others=100 * MUCH)
    assert kernel.slept > 0


def test_what_it_writes_itself_and_the_logs_of_others_slow_nothing(kernel: Kernel) -> None:
    pace = Pace(0, lambda _: None, Neighbours(str(kernel.path)))
    copied(kernel, pace, 2.0, others=MUCH // 2)
    assert 0.0 == kernel.slept


def test_soon_after_the_others_are_done_it_goes_at_full_speed_again(kernel: Kernel) -> None:
    pace = Pace(0, lambda _: None, Neighbours(str(kernel.path)))
    copied(kernel, pace, 0.5, others=100 * MUCH)
    copied(kernel, pace, AFTERWARDS, others=0)
    before = kernel.slept
    copied(kernel, pace, 1.0, others=0)
    assert before == kernel.slept


def test_it_says_that_it_lives_while_it_rests(kernel: Kernel) -> None:
    said: list[int] = []
    copied(kernel, Pace(0, said.append, Neighbours(str(kernel.path))), 0.5, others=100 * MUCH)
    assert 0 in said


@pytest.mark.parametrize("content", [None, "", "nr_dirtied\n", "nr_dirtied many\n", "nr_free_pages 3\n"])
def test_where_nobody_counts_nobody_is_given_way_to(kernel: Kernel, content: str | None) -> None:
    if content is None:
        kernel.path.unlink()
    else:
        kernel.path.write_text(content)
    neighbours = Neighbours(str(kernel.path))
    kernel.now += 1.0
    assert not neighbours.write_much()


def test_the_kernel_of_this_machine_counts_what_is_written(tmp_path: Path) -> None:
    neighbours = Neighbours()
    time.sleep(LOOK)
    with (tmp_path / "save.bin").open("wb") as file:
        for _ in range(64):
            file.write(b"\0" * 2**20)
    if not neighbours.write_much():
        pytest.skip("this file system does not count its dirty pages")
    time.sleep(AFTERWARDS + 2 * LOOK)
    ours = Neighbours()
    with (tmp_path / "copy.bin").open("wb") as file:
        file.write(b"\0" * 2**20)
    ours.wrote(2**30)
    time.sleep(LOOK)
    assert not ours.write_much()
