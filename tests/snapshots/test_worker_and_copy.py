"""The copying process on its own: manners, life and death; and the copy of one file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.snapshots.copy import BLOCK, Changed, Copier, Source, open_source, settle, solid
from smart_monitor.snapshots.intents import Intent, IntentBox
from smart_monitor.snapshots.job import Choice, job_of
from smart_monitor.snapshots.names import process_start
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.process import Worker
from tests.checkpoints.trees import hf_checkpoint
from tests.snapshots.runs import ROOMY, complete
from tests.waiting import PATIENCE, until


def job(out: Path, base: Path, rate: float = 0.0) -> dict[str, Any]:
    intent = Intent("id", "anomaly_20260101_000000_nan", "nan", 0.0, "20260101_000000", {}, b"{}")
    made = job_of(intent, Choice(checkpoint=complete(base)), ROOMY, out, last_resort=False, largest=0, theirs=set())
    return {**made, "rate": rate}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    hf_checkpoint(tmp_path / "current_model", 500, size=2_000_000)
    return tmp_path


def test_the_worker_runs_as_a_module_from_standard_input(base: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smart_monitor.snapshots.worker"],
        input=json.dumps({**job(base, base), "parent": os.getpid()}),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(done.stdout.splitlines()[-1])["name"] == "anomaly_20260101_000000_nan"


def test_the_worker_needs_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.path.append(sys.argv[1]); import smart_monitor.snapshots.worker; print(*sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(root)], capture_output=True, text=True, check=True)
    ours = {m for m in done.stdout.split() if m.startswith("smart_monitor.")}
    assert all(m.startswith("smart_monitor.snapshots") or m == "smart_monitor.units" for m in ours)
    assert not {"dataclasses", "subprocess", "asyncio", "inspect"} & set(done.stdout.split()), "they make its start slow"


def test_the_worker_lowers_itself_and_tells_of_its_progress(base: Path) -> None:
    worker = Worker(job(base, base, rate=1e6))
    until(lambda: worker.poll() is not None or worker.bytes > 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
    ionice = subprocess.run(["ionice", "-p", str(worker.pid)], capture_output=True, text=True, check=False)
    assert ionice.returncode or ionice.stdout.strip() == "idle"
    assert b"smart_monitor" in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    assert worker.bytes > 0
    assert worker.abandon() == {"result": "stopped", "why": "told to stop"}
    assert [n for n in os.listdir(base / "snapshots") if n.startswith(".partial")] == []


def test_the_end_of_the_thread_that_started_it_is_not_the_end_of_the_daemon(base: Path) -> None:
    workers: list[Worker] = []
    thread = threading.Thread(target=lambda: workers.append(Worker(job(base, base, rate=8e6))))
    thread.start()
    thread.join()
    result = workers[0].wait(PATIENCE)
    assert result is not None
    assert result["result"] == "published"


def test_a_worker_started_by_someone_already_gone_does_nothing(base: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smart_monitor.snapshots.worker"],
        input=json.dumps({**job(base, base), "parent": 4194303}),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(done.stdout) == {"result": "stopped", "why": "the daemon is gone"}
    assert not (base / "snapshots").exists()


def test_ctrl_c_is_the_daemons_business(base: Path) -> None:
    worker = Worker(job(base, base, rate=8e6))
    until(lambda: bool(list(base.glob("snapshots/.partial-*/model"))))
    os.kill(worker.pid, signal.SIGINT)
    result = worker.wait(PATIENCE)
    assert result is not None
    assert result["result"] == "published"


def test_a_worker_that_is_killed_or_crashes_says_how(base: Path) -> None:
    worker = Worker(job(base, base, rate=1e6))
    os.kill(worker.pid, signal.SIGKILL)
    result = worker.wait(PATIENCE)
    assert result == {"result": "died", "why": "the copying process died (killed by SIGKILL)"}
    result = Worker({"nonsense": 1}).wait(PATIENCE)
    assert result is not None
    assert result["result"] == "died"
    assert "KeyError" in result["why"]
    assert "\n" not in result["why"]


def test_a_process_that_waits_to_be_reaped_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert process_start(child.pid)
    until(lambda: process_start(child.pid) is None)
    child.wait()
    assert process_start(4194303) is None


def source(path: Path) -> Source:
    info = path.stat()
    return Source(path.name, path.name, info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns)


@pytest.mark.parametrize("size", [0, 1, 8 * 2**20 - 1, 8 * 2**20, 8 * 2**20 + 1, 70 * 2**20])
@pytest.mark.parametrize("cache", ["past", "through"])
def test_a_copy_is_the_same_bytes_and_their_digest_at_every_size(tmp_path: Path, size: int, cache: str) -> None:
    path = tmp_path / "source"
    content = os.urandom(4096) * (size // 4096 + 1)
    path.write_bytes(content[:size])
    fd, dst = os.open(path, os.O_RDONLY), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    with Copier(Pace(0, lambda _: None)) as copier:
        if cache == "through":  # as on kernels and file systems without RWF_DONTCACHE
            copier._flags.update(read=0, write=0)
        sha, _ = copier.copy(fd, dst, source(path))
        assert sha == copier.digest(dst) == hashlib.sha256(content[:size]).hexdigest()
    assert (tmp_path / "copy").read_bytes() == content[:size]
    os.close(fd)
    os.close(dst)


@pytest.mark.parametrize("end", [b"end", b"", b"\0" * 100_000])
def test_the_holes_of_a_sparse_file_stay_holes(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.write(os.urandom(100_000))
        file.seek(30 * 2**20 + 17)
        file.write(os.urandom(200_000))
        file.seek(50 * 2**20)
        file.write(end)
        file.truncate(50 * 2**20 + len(end))
    if path.stat().st_blocks * 512 > 2**20:
        pytest.skip("this file system has no holes")
    fd, dst = os.open(path, os.O_RDONLY), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    with Copier(Pace(0, lambda _: None)) as copier:
        sha, _ = copier.copy(fd, dst, source(path))
    copied = (tmp_path / "copy").read_bytes()
    assert (sha, path.read_bytes()) == (hashlib.sha256(copied).hexdigest(), copied)
    assert os.fstat(dst).st_blocks * 512 < 2**20
    os.close(fd)
    os.close(dst)


def test_of_a_piece_every_byte_that_is_not_zero_is_solid() -> None:
    for length in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7):
        for at in {0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5, length - 1} & set(range(length)):
            piece = bytearray(length)
            piece[at] = 1
            [(start, end)] = solid(memoryview(piece))
            assert start <= at < end <= min(length, start + BLOCK)
        assert [] == list(solid(memoryview(bytes(length))))
        assert [(0, length)] * bool(length) == list(solid(memoryview(b"\1" * length)))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each rest that was asked for; what they took in the end is the machine's affair."""
    asked, sleep = list[float](), time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (asked.append(seconds), sleep(seconds)))
    return asked


def test_a_rate_is_kept(tmp_path: Path, slept: list[float]) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1_000_000)
    fd, dst = os.open(path, os.O_RDONLY), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    seen: list[int] = []
    began = time.monotonic()
    with Copier(Pace(4e6, seen.append)) as copier:
        copier.copy(fd, dst, source(path))
    assert 0.2 < time.monotonic() - began
    assert sum(slept) < 0.3
    assert max(seen) <= 400_000
    os.close(fd)
    os.close(dst)


def test_a_time_stamp_in_whole_seconds_is_given_two_of_them_to_show_the_next_write(tmp_path: Path, slept: list[float]) -> None:
    path = tmp_path / "source"
    path.write_text("x")
    now = int(time.time())
    os.utime(path, (now, now))
    settle(source(path))
    assert time.time() >= now + 2
    slept.clear()
    os.utime(path, (now - 60, now - 60))
    settle(source(path))
    assert [] == slept


@pytest.mark.parametrize("change", ["size", "mtime", "replaced", "gone", "link", "directory"])
def test_a_file_that_is_not_the_one_seen_is_not_opened(tmp_path: Path, change: str) -> None:
    path = tmp_path / "source"
    path.write_text("seen complete")
    seen = source(path)
    info = path.stat()
    if change == "size":
        path.write_text("more")
    elif change == "mtime":
        os.utime(path)
    else:
        path.rename(tmp_path / "other")
        if change == "replaced":
            path.write_text("seen complete")
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        elif change == "link":
            path.symlink_to("/etc/hostname")
        elif change == "directory":
            path.mkdir()
    root = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Changed, match="source"):
        open_source(str(tmp_path), root, seen)
    os.close(root)


def test_an_intent_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    box = IntentBox(tmp_path / "a" / "b")
    metadata = {"loss": float("nan"), "text": "ü\n\udcff", "list": [1, None]}
    intent = Intent(
        "r:s:0:1:3:nan", "anomaly_20260101_000000_nan", "nan", 1.5, "20260101_000000", metadata, b"\0\xff", 2, 1, 9.5, "x"
    )
    box.save(intent)
    [back], said = box.load()
    assert said == []
    assert back.metadata == {**metadata, "loss": "NaN"}
    assert back.status == b"\0\xff"
    assert (back.tries, back.changed, back.not_before, back.why) == (2, 1, 9.5, "x")
    assert base64.b64encode(b"\0\xff").decode() in box.path(intent).read_text()
    box.remove(intent)
    box.remove(intent)
    assert box.load() == ([], [])
