"""One monitor a run: the lock, and who is said to hold it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from smart_monitor.daemon.lock import Held, RunLock, holder_of


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path / "lock"), RunLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(Held, match=f"process {os.getpid()} on"):
        second.acquire()
    found = holder_of(tmp_path / "lock")
    assert found is not None
    assert os.getpid() == found.pid
    first.release()
    assert holder_of(tmp_path / "lock") is None
    second.acquire()
    second.release()


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"pid": 1'])
def test_where_the_file_does_not_say_it_the_kernel_does(tmp_path: Path, content: bytes) -> None:
    lock = RunLock(tmp_path / "lock")
    lock.acquire()
    (tmp_path / "lock").write_bytes(content)
    found = holder_of(tmp_path / "lock")
    assert found is not None
    assert found.pid in (os.getpid(), 0)
    lock.release()


def test_the_line_of_a_dead_holder_is_not_believed(tmp_path: Path) -> None:
    code = "import sys, pathlib, smart_monitor.daemon.lock as l; l.RunLock(pathlib.Path(sys.argv[1])).acquire()"
    subprocess.run([sys.executable, "-c", code, tmp_path / "lock"], cwd=Path(__file__).parents[2], check=True)
    assert (tmp_path / "lock").read_bytes()
    assert holder_of(tmp_path / "lock") is None


def test_who_only_looks_does_not_keep_a_monitor_from_starting(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    over = threading.Event()

    def looks() -> None:
        while not over.is_set():
            holder_of(tmp_path / "lock")
            time.sleep(0.0005)

    thread = threading.Thread(target=looks)
    thread.start()
    try:
        for _ in range(50):
            lock = RunLock(tmp_path / "lock")
            lock.acquire()
            lock.release()
    finally:
        over.set()
        thread.join()


def test_a_lock_whose_directory_was_moved_is_no_longer_ours(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    lock = RunLock(place / "lock")
    lock.acquire()
    assert lock.is_ours()
    place.rename(tmp_path / "b")
    assert not lock.is_ours()
    (tmp_path / "b").rename(place)
    assert lock.is_ours()
    lock.release()
