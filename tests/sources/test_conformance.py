"""The laws of a source, held for every module of the package; a new one adds its line to `WAYS`."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smart_monitor.sources
from smart_monitor.sources import Cursor, Options, Pass, Source, Steady, formats
from smart_monitor.sources.status_json import StatusFile
from tests.sources import stores, wandb_log
from tests.sources.cutting import ignored
from tests.sources.events import BEGINNING, event, record


class Way(NamedTuple):
    """How to stand a source up in a directory, and how its trainer writes one more row."""

    make: Callable[[type[Any], Path], Source]
    write: Callable[[Path, int], None]
    """Write the row of this step: `step` and `loss` 1 / (step + 1)."""
    hostile: Callable[[Path, bytes], None]
    """Write bytes that are no row of anything."""


def appending(
    name: str,
    row: Callable[[int], bytes],
    *,
    header: bytes = b"",
    hostile: Callable[[bytes], bytes] = bytes,
    of_directory: bool = False,
) -> Way:
    def write(base: Path, content: bytes) -> None:
        (base / name).parent.mkdir(exist_ok=True, parents=True)
        with (base / name).open("ab") as file:
            file.write(content if file.tell() else header + content)

    def make(kind: type[Any], base: Path) -> Source:
        return kind(base if of_directory else base / name, "run")  # type: ignore[no-any-return]

    return Way(make, lambda base, i: write(base, row(i)), lambda base, content: write(base, hostile(content)))


def replacing(name: str, document: Callable[[Path, int], bytes]) -> Way:
    def write(base: Path, content: bytes) -> None:
        (base / name).parent.mkdir(exist_ok=True, parents=True)
        new = base / f"{name}.tmp"
        new.write_bytes(content)
        new.replace(base / name)

    return Way(lambda kind, base: kind(base, "run"), lambda base, i: write(base, document(base, i)), write)


def json_row(step: int) -> bytes:
    return json.dumps({"step": step, "loss": 1 / (step + 1), "pad": "ü" * (step % 5)}).encode()


def history(path: Path, step: int) -> bytes:
    """The document with one row more, if there is one."""
    try:
        rows = json.loads(path.read_bytes())["log_history"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        rows = []
    return json.dumps({"log_history": [*rows, {"step": step, "loss": 1 / (step + 1)}]}).encode()


def line(content: bytes) -> bytes:
    return content + b"\n"


def stored(schema: str, add: Callable[[sqlite3.Connection, int, dict[str, float]], None]) -> Way:
    def write(base: Path, step: int) -> None:
        try:
            connection = stores.opened(base / "m.db", schema)
        except sqlite3.DatabaseError:
            spoil(base, b"")
            connection = stores.opened(base / "m.db", schema)
        add(connection, step, {"loss": 1 / (step + 1)})
        connection.close()

    def spoil(base: Path, content: bytes) -> None:
        for path in base.glob("m.db*"):
            path.unlink()
        (base / "m.db").write_bytes(content)

    return Way(lambda kind, base: kind(base / "m.db", "run"), write, spoil)


WAYS = {
    "StatusFile": replacing("training_status.json", lambda _, i: json_row(i)),
    "JsonLines": appending("m.jsonl", lambda i: json_row(i) + b"\n", hostile=line),
    "CsvTable": appending("m.csv", lambda i: f"{i},{1 / (i + 1)!r},ü\n".encode(), header=b"step,loss,pad\n", hostile=line),
    "TrainerState": replacing(
        "checkpoint-1/trainer_state.json", lambda base, i: history(base / "checkpoint-1/trainer_state.json", i)
    ),
    "EventFiles": appending(
        "events.out.tfevents.1.host.2.0",
        lambda i: record(event(i, {"loss": 1 / (i + 1)}, i, "double_val")),
        header=BEGINNING,
        of_directory=True,
    ),
    "WandbFile": Way(
        lambda kind, base: kind(base / "run-a.wandb", "run"),
        lambda base, i: wandb_log.append(base / "run-a.wandb", wandb_log.history(i, {"loss": 1 / (i + 1)})),
        lambda base, content: wandb_log.append(base / "run-a.wandb", content),
    ),
    "MlflowFiles": appending("metrics/loss", lambda i: f"{i}000 {1 / (i + 1)!r} {i}\n".encode(), hostile=line, of_directory=True),
    "MlflowDatabase": stored(stores.MLFLOW, stores.mlflow),
    "TrackioDatabase": stored(stores.TRACKIO, stores.trackio),
    "TextLog": appending("m.log", lambda i: f"step {i} | loss {1 / (i + 1)!r} ü\n".encode(), hostile=line),
}


def found_sources() -> list[type[Any]]:
    found = []
    for module in pkgutil.iter_modules(smart_monitor.sources.__path__, "smart_monitor.sources."):
        members = vars(importlib.import_module(module.name))
        mine = [m for m in members.values() if isinstance(m, type) and m.__module__ == module.name and hasattr(m, "read")]
        found += mine if "FORMAT" in members else []
    return found


SOURCES = found_sources()
every = pytest.mark.parametrize("kind", SOURCES, ids=[k.__name__ for k in SOURCES])
ROWS = 30


def look(source: Source, cursor: Cursor, mono: float = 1.0, final: bool = False) -> Pass:
    """One look, under the laws that hold for each."""
    before = copy.deepcopy(cursor)
    unmoved = isinstance(source, Steady) and source.unmoved(cursor, mono) and not final
    seen = source.read(cursor, 1e9, mono, final)
    if unmoved:
        assert (cursor, [], False, ()) == (seen.cursor, seen.records, seen.heartbeat, seen.oddities)
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
        for row in range(ROWS):
            way.write(base, row)
            if restarts:
                source, cursor = way.make(kind, base), json.loads(json.dumps(cursor))
            for final in (False, row + 1 == ROWS):
                seen = look(source, cursor, final=final)
                cursor = seen.cursor
                found += seen.records
        results.append(found)
    assert results[0] == results[1]
    assert [(i, {"loss": 1 / (i + 1)}) for i in range(ROWS)] == [(r.step, r.values) for r in results[0]]
    whole = list(way.make(kind, base).whole(ignored))
    assert [r._replace(seen=None) for r in results[0] if r.index >= 0] in ([], whole)
    assert list(range(len(whole))) == [r.index for r in whole]
    assert ROWS - 1 == whole[-1].step


@pytest.mark.parametrize("kind", [k for k in SOURCES if hasattr(k, "unmoved")], ids=lambda k: k.__name__)
def test_what_was_read_is_unmoved_until_it_is_written_again(kind: type[Any], tmp_path: Path) -> None:
    way = WAYS[kind.__name__]
    source, cursor = way.make(kind, tmp_path), {}
    for row in range(3):
        way.write(tmp_path, row)
        assert not source.unmoved(cursor, 1.0)
        cursor = look(source, cursor).cursor
        assert source.unmoved(cursor, 1.0)
    shutil.rmtree(tmp_path)
    assert not source.unmoved(cursor, 1.0)


def test_a_status_file_beside_the_directory_for_it_is_unmoved_also_after_a_restart(tmp_path: Path) -> None:
    way = WAYS["StatusFile"]
    way.write(tmp_path, 0)
    assert not (tmp_path / "status").exists()
    cursor = look(StatusFile(tmp_path, "run"), {}).cursor
    source = StatusFile(tmp_path, "run")
    assert cursor is look(source, cursor).cursor
    assert source.unmoved(cursor, 1.0)


def test_a_status_file_is_not_unmoved_once_another_stands_in_the_other_place(tmp_path: Path) -> None:
    source, way = StatusFile(tmp_path, "run"), WAYS["StatusFile"]
    way.write(tmp_path, 0)
    cursor = look(source, {}).cursor
    assert source.unmoved(cursor, 1.0)
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "training_status.json").write_bytes(json_row(1))
    assert not source.unmoved(cursor, 1.0)


@every
def test_reading_writes_nothing(kind: type[Any], tmp_path: Path) -> None:
    way = WAYS[kind.__name__]
    way.write(tmp_path, 0)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    for path in files:
        path.chmod(0o400)
    before = [(p, p.stat().st_mtime_ns, p.stat().st_atime_ns, p.read_bytes()) for p in files]
    look(way.make(kind, tmp_path), {})
    assert files == [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [b[:2] for b in before] == [(p, p.stat().st_mtime_ns) for p in files]
    assert [b[3] for b in before] == [p.read_bytes() for p in files]


@every
def test_a_format_describes_each_source(kind: type[Any]) -> None:
    described = [f for f in formats() if type(f.open(Path("/nowhere"), "run", "", Options())) is kind]
    assert 1 == len(described)
    assert described[0].title
    assert described[0].index


def test_formats_have_names_and_orders_of_their_own() -> None:
    assert len(formats()) == len({f.name for f in formats()}) == len({f.order for f in formats()})


HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"[" * 5000, b"{" * 5000, b'{"a":' * 3000, b"\0" * 99, b"9" * 6000, b"NaN"]),
    st.sampled_from([b'{"step": ' + b"9" * 6000 + b"}"]),
    st.sampled_from([b'{"step":1e999,"loss":"\\ud800"}', b'{"\\ud800":1,"loss":1}', json_row(3)]),
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
        way.write(base, 0)
        for content in contents:
            way.hostile(base, content)
            for mono in (1.0, 20.0):
                cursor = look(source, cursor, mono).cursor
        way.write(base, 123456)
        last = look(source, cursor, 21.0, final=True)
        assert (123456, {"loss": 1 / 123457}) == (last.records[-1].step, last.records[-1].values)
