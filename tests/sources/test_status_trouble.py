"""A status file that is half-written, hostile or out of reach: a sentence at most, never an error."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_monitor.sources import Cursor, Pass
from smart_monitor.sources.documents import RETRIES, TORN_FOR
from smart_monitor.sources.status_json import StatusFile

WHOLE = json.dumps({"status": "training", "current_step": 10, "loss": 0.5}).encode()


def look(base: Path, cursor: Cursor | None = None, mono: float = 0.0) -> Pass:
    seen = StatusFile(base, "run", max_bytes=1 << 20).read(cursor or {}, 1e9, mono)
    json.dumps(seen.cursor, allow_nan=False)
    return seen


@pytest.fixture
def status(tmp_path: Path) -> Path:
    path = tmp_path / "training_status.json"
    path.write_bytes(WHOLE)
    return path


@pytest.mark.parametrize("torn", [b"", b" \n", b"\0" * 40, WHOLE[:-1], WHOLE[:1], WHOLE + b"}", '{"name": "ü'.encode()[:-1]])
def test_a_torn_read_is_retried_and_never_an_error(status: Path, torn: bytes) -> None:
    cursor = look(status.parent).cursor
    status.write_bytes(torn)
    for expected in (*RETRIES, None, None):
        seen = look(status.parent, cursor, 1.0)
        assert (expected, True, []) == (seen.retry_in, seen.sight.ok, seen.records)
        cursor = seen.cursor
    status.write_bytes(WHOLE.replace(b"10", b"11"))
    seen = look(status.parent, cursor, 2.0)
    assert (True, [11]) == (seen.sight.ok, [r.step for r in seen.records])
    assert "torn" not in seen.cursor


def test_another_torn_write_is_soon_looked_at_again(status: Path) -> None:
    status.write_bytes(b"")
    cursor: Cursor = {}
    for _ in range(5):
        cursor = look(status.parent, cursor).cursor
    status.write_bytes(WHOLE[:9])
    assert RETRIES[0] == look(status.parent, cursor).retry_in


def test_a_torn_read_under_a_stat_already_seen_is_looked_at_again(status: Path) -> None:
    stamp = status.stat()
    source = StatusFile(status.parent, "run")
    cursor = source.read({}, stamp.st_mtime, 0.0).cursor
    for content, records in ((b" " * len(WHOLE), 0), (WHOLE.replace(b"10", b"11"), 1)):
        with status.open("r+b") as file:
            file.write(content)
        os.utime(status, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        seen = source.read(cursor, stamp.st_mtime + 9, 0.0)
        assert records == len(seen.records)
        cursor = seen.cursor


def test_a_file_torn_for_long_is_said_once_and_fine_again_when_it_is(status: Path) -> None:
    status.write_bytes(b"")
    cursor = look(status.parent, {}, 5.0).cursor
    assert look(status.parent, cursor, 5.0 + TORN_FOR - 0.1).sight.ok
    seen = look(status.parent, cursor, 5.0 + TORN_FOR)
    assert (False, None) == (seen.sight.ok, seen.retry_in)
    assert f"{status} has not been whole for more than 10 s: it is empty." == seen.sight.why
    again = look(status.parent, seen.cursor, 99.0)
    assert (seen.sight, seen.cursor) == (again.sight, again.cursor)
    status.write_bytes(WHOLE)
    fine = look(status.parent, again.cursor, 100.0)
    assert (True, "", 1) == (fine.sight.ok, fine.sight.why, len(fine.records))


def test_torn_time_does_not_survive_a_start_of_the_machine(status: Path) -> None:
    status.write_bytes(b"")
    cursor = look(status.parent, {}, 1e6).cursor
    cursor = look(status.parent, cursor, 3.0).cursor
    assert look(status.parent, cursor, 4.0).sight.ok
    assert not look(status.parent, cursor, 3.0 + TORN_FOR).sight.ok


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deep"),
        (b'{"loss": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"loss": 1, "name": "M\xfcller"}', "is not UTF-8 (byte 22)"),
        ('{"loss": 1, "name": "x"}'.encode("utf-16"), "is not UTF-8"),
        (b"[1, 2]", "holds a list where"),
        (b"3", "holds a bare number or truth value"),
        (b'"training"', "holds a string where"),
        (b"null", "holds null where"),
        (
            b'{"vo2Max": 51, "x\\n[ALERT] y": 1}',
            "does not look like a training status (no loss, no step); its keys: vo2Max, x [ALERT] y.",
        ),
        (b"{}", "does not look like a training status"),
        (b" " * ((1 << 20) + 1), "too large"),
    ],
)
def test_content_that_is_no_status_is_one_sentence_and_not_parsed_again(status: Path, content: bytes, words: str) -> None:
    known = look(status.parent).cursor
    for cursor in ({}, known):
        status.write_bytes(content)
        seen = look(status.parent, cursor)
        assert (False, [], False) == (seen.sight.ok, seen.records, seen.heartbeat)
        assert words in seen.sight.why
        assert seen.sight.why.isprintable()
        again = look(status.parent, seen.cursor)
        assert (seen.sight, True) == (again.sight, again.cursor is seen.cursor)
        status.write_bytes(WHOLE.replace(b"10", b"12"))
        fine = look(status.parent, seen.cursor)
        assert (True, [12]) == (fine.sight.ok, [r.step for r in fine.records])


def test_a_hundred_megabytes_are_not_read(status: Path) -> None:
    os.truncate(status, 100 << 20)
    seen = look(status.parent)
    assert (False, f"{status} is too large: 100 MiB, more than the 1 MiB that are read.") == (seen.sight.ok, seen.sight.why)


@pytest.mark.parametrize(
    "content",
    [
        {
            "current_step": {"a": 1},
            "loss": [1],
            "epoch": "x",
            "status": 5,
            "timestamp": {},
            "pid": [],
            "run_id": {"a": 1},
            "lr": 1e-3,
        },
        {"step": "x" * 10_000, "loss": "nan", "error_message": ["a"], "metrics": "none", "latest_metrics": 3},
        {"loss": 1e308, "step": -1, "total_steps": "many", "rank": "first"},
    ],
)
def test_wrong_types_are_as_if_not_given(status: Path, content: dict[str, object]) -> None:
    status.write_text(json.dumps(content))
    seen = look(status.parent)
    assert ([None], True) == ([r.step for r in seen.records], seen.sight.ok)


def test_a_state_alone_is_enough_once_the_file_is_known(status: Path) -> None:
    cursor = look(status.parent).cursor
    status.write_bytes(b'{"status": "completed"}')
    assert not look(status.parent).sight.ok
    assert ["completed"] == [r.state for r in look(status.parent, cursor).records]


@pytest.mark.parametrize("kind", ["a directory", "a named pipe", "a socket", "a device"])
def test_what_is_no_file_is_a_sentence_and_never_a_hang(kind: str) -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path must be short
        path = Path(short) / "training_status.json"
        if kind == "a directory":
            path.mkdir()
        elif kind == "a named pipe":
            os.mkfifo(path)
        elif kind == "a device":
            path.symlink_to("/dev/zero")
        else:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        seen = look(Path(short))
        assert (False, f"{path} is {kind}, not a file.") == (seen.sight.ok, seen.sight.why)


def test_a_link_in_a_circle_or_to_nowhere_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "training_status.json"
    path.symlink_to(path)
    assert "cannot be read: Too many levels of symbolic links." in look(tmp_path).sight.why
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert f"There is no training_status.json in {tmp_path} yet." == look(tmp_path).sight.why
    assert not look(tmp_path / "no such run").sight.ok


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that any user may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_file_of_another_user_is_a_sentence(open_dir: Path) -> None:
    path = open_dir / "training_status.json"
    path.write_bytes(WHOLE)
    path.chmod(0)
    if os.getuid():
        why = look(open_dir).sight.why
    else:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.setuid(65534)
            os.write(writer, look(open_dir).sight.why.encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            why = pipe.read()
    assert f"{path} cannot be read: Permission denied." == why


def test_reading_leaves_the_access_time_alone(status: Path) -> None:
    os.utime(status, (1e9, 2e9))
    look(status.parent)
    assert 1e9 == status.stat().st_atime
