"""The journal: what went in comes out, over days, torn tails and clocks set back."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.journal import TAIL, Journal, decode, encode, journal_files, read_journal, run_name
from smart_monitor.model import HOST, TICK, Record

TEXT = st.text(max_size=20)
NUMBERS = st.one_of(st.floats(), st.just(math.nan), st.sampled_from([1e308, 5e-324, -0.0]))
RECORDS = st.builds(
    Record, run=st.just("r"), source=TEXT, index=st.integers(0, 2**53), step=st.none() | st.integers(0, 2**53),
    by=st.sampled_from(["step", "epoch", "row"]), epoch=st.none() | NUMBERS, time=st.none() | NUMBERS, seen=st.none() | NUMBERS,
    values=st.dictionaries(TEXT, NUMBERS, max_size=5), rank=st.integers(0, 99), total=st.none() | st.integers(1, 2**60),
    nulls=st.lists(TEXT, max_size=3).map(tuple), ids=st.dictionaries(TEXT, TEXT, max_size=2),
    kind=st.sampled_from(["record", "tick", "state", "outcome"]), state=TEXT, note=TEXT, historical=st.booleans(),
)  # fmt: skip


@given(RECORDS, st.integers(1, 2**40))
def test_a_line_says_again_what_went_in(record: Record, number: int) -> None:
    line = encode(record, number).encode("utf-8", "backslashreplace")
    assert b"\n" not in line
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    assert repr((number, record)) == repr(decode(line, "r"))


def test_an_integer_beyond_all_floats_reads_as_infinite() -> None:
    _, record = decode(encode(Record("r", "s", 0, values={"loss": 10**5000}), 1), "r") or (0, None)
    assert record is not None
    assert {"loss": math.inf} == record.values


@pytest.mark.parametrize(
    "line", ["", "3", "[]", '{"n": 1}', '{"n": "x", "values": {}}', '{"n": 1, "values": {"a": []}}', '{"n": 1, "val']
)
def test_a_damaged_line_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        decode(line, "r")


def test_a_field_of_a_later_version_is_passed_over() -> None:
    found = decode('{"n": 4, "kind": "record", "colour": "red", "values": {"loss": 1}}', "r")
    assert found is not None and {"loss": 1.0} == found[1].values


def journal(path: Path) -> Journal:
    opened = Journal(path, "my run")
    opened.open()
    return opened


def record(index: int, seen: float) -> Record:
    return Record("my run", "status", index, step=index * 10, seen=seen, values={"loss": float(index)})


def test_several_days_are_read_in_order_and_from_any_number_on(tmp_path: Path) -> None:
    began = time.mktime((2025, 11, 12, 12, 0, 0, 0, 0, -1))
    writer = journal(tmp_path)
    for n in range(60):
        assert n + 1 == writer.append(record(n, began + n * 3600))
    writer.close()
    assert ["20251112", "20251113", "20251114"] == [p.stem for p in journal_files(tmp_path)]
    for after in (0, 1, 11, 12, 13, 40, 59, 60):
        assert list(range(after + 1, 61)) == [n for n, _ in read_journal(tmp_path, "my run", after)]
    assert "my run" == run_name(tmp_path)


def test_opened_again_it_goes_on_counting_whatever_the_clock_says(tmp_path: Path) -> None:
    began = time.mktime((2025, 11, 12, 12, 0, 0, 0, 0, -1))
    first = journal(tmp_path)
    first.append(record(0, began))
    first.append(Record("my run", HOST, 0, seen=began + 86400, kind=TICK))
    first.close()
    second = journal(tmp_path)
    assert (2, 1) == (second.number, second.records)
    second.append(record(1, began))  # the clock was set back by a day
    second.close()
    assert [1, 2, 3] == [n for n, _ in read_journal(tmp_path, "my run")]


def test_a_torn_last_line_is_cut_off_and_its_number_given_again(tmp_path: Path) -> None:
    writer = journal(tmp_path)
    for n in range(3):
        writer.append(record(n, 1.7e9))
    writer.close()
    [path] = journal_files(tmp_path)
    whole = path.read_bytes()
    for lost in range(1, len(whole.splitlines(True)[-1])):
        path.write_bytes(whole[:-lost])
        again = journal(tmp_path)
        assert (2, 2) == (again.number, again.records)
        again.append(record(2, 1.7e9))
        again.close()
        assert whole == path.read_bytes()


def test_damage_in_the_middle_costs_only_its_own_lines(tmp_path: Path) -> None:
    writer = journal(tmp_path)
    for n in range(5):
        writer.append(record(n, 1.7e9))
    writer.close()
    [path] = journal_files(tmp_path)
    lines = path.read_bytes().splitlines(True)
    lines[3] = b"\0" * 40 + b"\n"
    path.write_bytes(b"".join(lines))
    assert [1, 2, 4, 5] == [n for n, _ in read_journal(tmp_path, "my run")]


def test_a_long_day_is_opened_from_its_end(tmp_path: Path) -> None:
    writer = journal(tmp_path)
    for n in range(12_000):
        writer.append(record(n, 1.7e9))
    writer.close()
    [path] = journal_files(tmp_path)
    assert os.stat(path).st_size > TAIL
    again = journal(tmp_path)
    assert (12_000, 12_000) == (again.number, again.records)


def test_replay_of_a_journal_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    writer = journal(tmp_path / ".smart_monitor" / "journal")
    for n in range(80):
        loss = {50: 9.0, 60: math.nan}.get(n, 1.0)
        writer.append(Record("my run", "status", n, step=n, seen=1.7e9 + n, values={"loss": loss, "grad_norm": 1.0}))
    writer.close()
    command = [sys.executable, "-m", "smart_monitor", "replay", str(tmp_path), "--format", "jsonl"]
    runs = [
        subprocess.run(
            command, check=False, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        )
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout
    kinds = [json.loads(line)["kind"] for line in runs[0].stdout.splitlines()]
    assert ["loss_spike", "nan"] == kinds
    assert 1 == runs[0].returncode
