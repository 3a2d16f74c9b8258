"""The laws of a source, held for every module of the package; a new one adds its line to `WAYS`."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smart_monitor.sources
from smart_monitor.sources import Cursor, Pass, Source
from smart_monitor.sources.appended import AppendedFile


class Way(NamedTuple):
    """How to stand a source up in a directory, and how its trainer writes one more row."""

    make: Callable[[type[Any], Path], Source]
    path: str
    append: bool
    """Whether rows are added to the file, or each takes the place of the last."""


WAYS = {
    "StatusFile": Way(lambda kind, base: kind(base, "run"), "training_status.json", False),
    "JsonLines": Way(lambda kind, base: kind(base / "m.jsonl", "run"), "m.jsonl", True),
}


def found_sources() -> list[type[Any]]:
    found = []
    for module in pkgutil.iter_modules(smart_monitor.sources.__path__, "smart_monitor.sources."):
        members = vars(importlib.import_module(module.name)).values()
        found += [
            m
            for m in members
            if isinstance(m, type) and m.__module__ == module.name and hasattr(m, "read") and m is not AppendedFile
        ]
    return found


SOURCES = found_sources()
every = pytest.mark.parametrize("kind", SOURCES, ids=[k.__name__ for k in SOURCES])
ROWS = [json.dumps({"step": i, "loss": 1 / (i + 1), "pad": "ü" * (i % 5)}).encode() for i in range(30)]


def write(way: Way, base: Path, row: bytes) -> None:
    path = base / way.path
    if way.append:
        with path.open("ab") as file:
            file.write(row + b"\n")
    else:
        path.with_suffix(".tmp").write_bytes(row)
        path.with_suffix(".tmp").replace(path)


def look(source: Source, cursor: Cursor, mono: float = 1.0) -> Pass:
    """One look, under the laws that hold for each."""
    before = copy.deepcopy(cursor)
    seen = source.read(cursor, 1e9, mono)
    assert cursor == before, "the cursor given is not changed"
    assert seen.cursor == json.loads(json.dumps(seen.cursor, allow_nan=False)), "a cursor is plain JSON"
    assert seen.sight.ok == (not seen.sight.why)
    assert seen.sight.why.isprintable()
    assert all(text.isprintable() for text in seen.oddities)
    assert len(seen.oddities) <= min(seen.odd, 16)
    assert all(0 <= place < len(seen.records) for place in seen.raws)
    assert all(r.source == source.name and r.run == "run" and not r.historical for r in seen.records)
    assert not (seen.heartbeat and seen.records)
    return seen


def test_every_source_module_is_known_here() -> None:
    assert sorted(WAYS) == sorted(kind.__name__ for kind in SOURCES)


@every
def test_a_missing_file_is_a_sentence(kind: type[Any], tmp_path: Path) -> None:
    seen = look(WAYS[kind.__name__].make(kind, tmp_path), {})
    assert (False, [], {}) == (seen.sight.ok, seen.records, seen.cursor)


@every
def test_a_restart_between_any_two_rows_gives_the_same_records(kind: type[Any], tmp_path: Path) -> None:
    way = WAYS[kind.__name__]
    results = []
    for restarts in (False, True):
        base = tmp_path / str(restarts)
        base.mkdir()
        source, cursor, found = way.make(kind, base), {}, []
        for row in ROWS:
            write(way, base, row)
            if restarts:
                source, cursor = way.make(kind, base), json.loads(json.dumps(cursor))
            for _ in range(2):
                seen = look(source, cursor)
                cursor = seen.cursor
                found += seen.records
        results.append(found)
    assert results[0] == results[1]
    assert list(range(30)) == [r.step for r in results[0]]


@every
def test_reading_writes_nothing(kind: type[Any], tmp_path: Path) -> None:
    way = WAYS[kind.__name__]
    write(way, tmp_path, ROWS[0])
    before = [(p.name, p.stat().st_mtime_ns, p.stat().st_atime_ns, p.read_bytes()) for p in tmp_path.iterdir()]
    (tmp_path / way.path).chmod(0o400)
    look(way.make(kind, tmp_path), {})
    assert [name for name, *_ in before] == [p.name for p in tmp_path.iterdir()]
    assert before[0][1] == (tmp_path / way.path).stat().st_mtime_ns


HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"[" * 5000, b"{" * 5000, b'{"a":' * 3000, b"\0" * 99, b"9" * 6000, b"NaN"]),
    st.sampled_from([b'{"step": ' + b"9" * 6000 + b"}"]),
    st.sampled_from([b'{"step":1e999,"loss":"\\ud800"}', b'{"\\ud800":1,"loss":1}', *ROWS]),
    st.sampled_from([b'{"status":"a\\nb","step":-1,"loss":null}']),
    st.dictionaries(
        st.sampled_from(["step", "loss", "status", "epoch", "pid", "timestamp", "train", "total_steps", "x"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)),
    ).map(lambda row: json.dumps(row).encode()),
)  # fmt: skip


@every
@settings(deadline=None, max_examples=60)
@given(contents=st.lists(HOSTILE, min_size=1, max_size=5))
def test_no_bytes_make_it_raise_and_good_ones_are_read_afterwards(kind: type[Any], contents: list[bytes]) -> None:
    way = WAYS[kind.__name__]
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        source, cursor = way.make(kind, base), {}
        for content in contents:
            write(way, base, content)
            for mono in (1.0, 20.0):
                cursor = look(source, cursor, mono).cursor
        write(way, base, b'{"step": 123456, "loss": 0.25, "status": "training"}')
        last = look(source, cursor, 21.0)
        assert (123456, {"loss": 0.25}) == (last.records[-1].step, last.records[-1].values)
