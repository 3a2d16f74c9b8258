"""The file of records: whole lines, whatever ends the process or fills the disk."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from smart_monitor.probe.writer import BACKLOG, RecordWriter


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_whole_lines_in_order_and_nan_stays_a_number(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "deep" / "probe_rank_0.jsonl")
    for step in range(500):
        writer.write({"step": step, "grad_norm": math.nan})
    assert writer.flush(30)
    found = lines(writer.path)
    assert [r["step"] for r in found] == list(range(500))
    assert all(math.isnan(r["grad_norm"]) for r in found)
    writer.close()
    writer.write({"step": 500})
    writer.close(30)
    assert 501 == len(lines(writer.path))


def test_a_file_moved_away_is_made_anew_and_a_torn_line_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "probe_rank_0.jsonl"
    path.write_text('{"step": 1}\n{"st')
    writer = RecordWriter(path)
    writer.write({"step": 2})
    assert writer.flush(30)
    assert path.read_text().splitlines() == ['{"step": 1}', '{"st', '{"step":2}']
    path.rename(tmp_path / "old")
    writer.write({"step": 3})
    assert writer.flush(30)
    assert lines(path) == [{"step": 3}]
    writer.close()


def test_what_the_disk_refuses_waits_bounded_and_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "not_a_directory"
    place.write_text("")
    writer = RecordWriter(place / "probe_rank_0.jsonl")
    for step in range(BACKLOG + 100):
        writer.write({"step": step})
    assert not writer.flush(30)
    assert writer.trouble
    assert writer.dropped == 100
    place.unlink()
    assert writer.flush(30)
    assert [r["step"] for r in lines(writer.path)] == list(range(100, BACKLOG + 100))
    writer.close()


def test_a_full_disk_leaves_whole_lines() -> None:
    writer = RecordWriter("/dev/full")
    writer.write({"step": 1})
    assert not writer.flush(30)
    assert "No space left on device" == writer.trouble
    writer.close()


def test_what_is_no_json_is_dropped_with_a_count(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    writer = RecordWriter(tmp_path / "probe_rank_0.jsonl")
    writer.write(loop)
    writer.write({"step": 1})
    assert writer.flush(30)
    assert (1, [{"step": 1}]) == (writer.dropped, lines(writer.path))
    writer.close()


PROGRAM = """
import sys
from smart_monitor.probe.writer import RecordWriter
writer = RecordWriter(sys.argv[1], every=3600)
writer.write({"step": 1})
{end}
"""


def test_an_exception_or_the_end_of_the_process_loses_nothing(tmp_path: Path) -> None:
    for at, end in enumerate(["raise SystemError", "sys.exit(3)", ""]):
        path = tmp_path / f"{at}.jsonl"
        subprocess.run([sys.executable, "-c", PROGRAM.replace("{end}", end), str(path)], check=False, capture_output=True)
        assert [{"step": 1}] == lines(path)


def test_a_fork_writes_with_a_thread_of_its_own_and_a_kill_leaves_whole_lines(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "{end}",
        "writer.flush(30)\nimport os, signal\n"
        "if os.fork() == 0:\n    writer.write({'step': 2})\n    writer.flush(30)\n    os._exit(0)\n"
        "os.wait()\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    path = tmp_path / "probe_rank_0.jsonl"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [{"step": 1}, {"step": 2}] == lines(path)
    assert os.stat(path).st_size
