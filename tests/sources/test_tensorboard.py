"""TensorBoard event files: framing, checksums, scalars of all sorts, steps joined into rows, several files."""

from __future__ import annotations

import json
import math
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import Record
from smart_monitor.sources import Cursor
from smart_monitor.sources.appended import QUIET
from smart_monitor.sources.crc32c import crc32c, crc32c_python
from smart_monitor.sources.grouping import Joiner
from smart_monitor.sources.tensorboard import CHUNK, MAX_EVENT, EventFiles
from tests.sources.cutting import at_once, ignored, in_pieces, read_all
from tests.sources.events import BEGINNING, bytes_field, event, logged, record

NAME = "events.out.tfevents.1700000000.host.1.0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def said(records: list[Record]) -> list[tuple[int | None, dict[str, float]]]:
    return [(r.step, dict(r.values)) for r in records]


def source(path: Path) -> EventFiles:
    return EventFiles(path.parent, "run")


def test_the_checksum_is_that_of_the_standard() -> None:
    assert 0xE3069283 == crc32c_python(b"123456789") == crc32c(b"123456789")
    assert 0x8A9136AA == crc32c_python(bytes(32))


def test_metrics_of_a_step_are_one_record_and_the_last_step_does_not_wait_for_the_next(path: Path) -> None:
    steps = [{"train/loss": 0.5, "train/grad_norm": 1.5}, {"train/loss": 0.25, "train/grad_norm": 2.0}]
    path.write_bytes(BEGINNING + logged(10, steps[0], 1e9) + logged(20, steps[1], 1e9 + 5))
    found, cursor = read_all(source(path), {})
    assert [(10, {"loss": 0.5, "grad_norm": 1.5}), (20, {"loss": 0.25, "grad_norm": 2.0})] == said(found)
    with path.open("ab") as file:
        file.write(logged(30, steps[0], 1e9 + 9))
    (third,), cursor = read_all(source(path), cursor)
    assert (30, 1e9 + 9.001) == (third.step, third.time), "once it is known what a step logs, it is complete at once"


def test_a_row_that_may_not_be_complete_is_taken_after_a_while(path: Path) -> None:
    path.write_bytes(BEGINNING + logged(10, {"loss": 0.5}))
    found, cursor = read_all(source(path), {}, mono=100.0)
    found += read_all(source(path), cursor, mono=100.0 + QUIET / 2)[0]
    assert [] == found
    found, cursor = read_all(source(path), cursor, mono=100.0 + QUIET)
    assert [(10, {"loss": 0.5})] == said(found)
    assert [] == read_all(source(path), cursor, mono=200.0)[0]


def test_an_evaluation_now_and_then_does_not_delay_the_training_rows(path: Path) -> None:
    content = BEGINNING
    for step in range(1, 9):
        content += logged(step, {"train/loss": 0.5, "train/lr": 0.25}, 1e9 + step)
        content += logged(step, {"eval/loss": 0.75}, 1e9 + step + 0.5) if step % 4 == 0 else b""
    found = at_once(lambda: source(path), path, content)
    assert [1, 2, 3, 4, 4, 5, 6, 7, 8, 8] == [r.step for r in found]
    assert [{"eval_loss": 0.75}] * 2 == [r.values for r in found if "eval_loss" in r.values]


@pytest.mark.parametrize("how", ["simple", "float_val", "tensor_content", "double_val"])
@pytest.mark.parametrize("value", [0.5, math.inf, -0.0, 2.0**100])
def test_scalars_of_all_sorts_are_read(path: Path, how: str, value: float) -> None:
    found = at_once(lambda: source(path), path, BEGINNING + record(event(3, {"loss": value}, how=how)))
    assert [(3, {"loss": value})] == said(found)


def test_a_nan_is_a_nan(path: Path) -> None:
    (found,) = at_once(lambda: source(path), path, BEGINNING + record(event(3, {"loss": math.nan})))
    assert math.isnan(found.values["loss"])


@pytest.mark.parametrize("how", ["string", "two"])
def test_what_is_no_scalar_is_passed_over(path: Path, how: str) -> None:
    content = BEGINNING + record(event(3, {"text": 1.0}, how=how)) + record(event(4, {"loss": 0.5}))
    assert [(4, {"loss": 0.5})] == said(at_once(lambda: source(path), path, content))


def test_a_torn_tail_waits_and_is_said_only_when_nothing_more_can_come(path: Path) -> None:
    whole = BEGINNING + logged(1, {"loss": 0.5})
    path.write_bytes(whole[:-3])
    seen = source(path).read({}, 1e9, 1.0)
    assert ([], True, 0) == (seen.records, seen.sight.ok, seen.odd)
    told: list[str] = []
    assert [] == list(source(path).whole(told.append))
    assert [f"{NAME} ends in the middle of an event."] == told
    path.write_bytes(whole)
    assert [(1, {"loss": 0.5})] == said(read_all(source(path), seen.cursor, final=True)[0])


@pytest.mark.parametrize("where", ["length", "length's checksum", "data", "data's checksum"])
def test_damage_is_said_and_costs_the_damaged_event_only(path: Path, where: str) -> None:
    parts = [BEGINNING, *(logged(i, {"loss": i / 8}) for i in range(1, 9))]
    start = sum(map(len, parts[:4]))
    content = bytearray(b"".join(parts))
    content[start + {"length": 1, "length's checksum": 9, "data": 20, "data's checksum": len(parts[4]) - 2}[where]] ^= 0x55
    path.write_bytes(bytes(content))
    seen = source(path).read({}, 1e9, 1.0, final=True)
    assert [1, 2, 3, 5, 6, 7, 8] == [r.step for r in seen.records]
    assert 1 == seen.odd
    assert f"{start}" in seen.oddities[0]
    assert "damaged" in seen.oddities[0]


def test_an_unreadable_stretch_longer_than_a_chunk_is_passed_over(path: Path) -> None:
    noise = bytes(range(256)) * 3 + bytes(CHUNK) + b"\x01" * CHUNK
    content = BEGINNING + logged(1, {"loss": 0.5}) + noise + logged(2, {"loss": 0.25})
    assert [1, 2] == [r.step for r in at_once(lambda: source(path), path, content)]


def test_events_of_monstrous_size_are_passed_over_unread(path: Path) -> None:
    picture = record(event(2, {}) + bytes_field(5, bytes(MAX_EVENT)))
    content = BEGINNING + logged(1, {"loss": 0.5}) + picture + logged(3, {"loss": 0.25})
    assert [1, 3] == [r.step for r in at_once(lambda: source(path), path, content)]


def test_a_length_beyond_all_bounds_is_damage_and_needs_no_memory(path: Path) -> None:
    from smart_monitor.sources.crc32c import masked

    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(BEGINNING + length + struct.pack("<I", masked(length)) + b"x" * 50 + logged(3, {"loss": 0.25}))
    assert [3] == [r.step for r in read_all(source(path), {}, final=True)[0]]


def test_steps_that_cannot_be_used_are_said(path: Path) -> None:
    path.write_bytes(BEGINNING + record(event(-3, {"loss": 1.0})) + record(event(4, {"loss": 1.0})))
    seen = source(path).read({}, 1e9, 1.0, final=True)
    assert ([4], 1) == ([r.step for r in seen.records], seen.odd)


def test_files_written_at_once_are_read_in_order_of_time(path: Path) -> None:
    names = [NAME, NAME.replace("1700000000", "1700000001")]
    for at, name in enumerate(names):
        rows = [logged(step, {"loss" if at == 0 else "val_loss": step / 8}, 1e9 + step + at / 2) for step in range(5000)]
        path.with_name(name).write_bytes(BEGINNING + b"".join(rows))
    found, _ = read_all(source(path), {}, final=True)
    assert 10_000 == len(found)
    times = [r.time or 0 for r in found[4:]]  # the first of each file waits for its second
    assert sorted(times) == times
    assert list(range(10_000)) == [r.index for r in found]


def test_a_file_begun_by_a_restart_is_read_after_the_first(path: Path) -> None:
    path.write_bytes(BEGINNING + b"".join(logged(step, {"loss": 0.5}, 1e9 + step) for step in range(10)))
    found, cursor = read_all(source(path), {}, final=True)
    second = path.with_name(NAME.replace("1700000000", "1700009999"))
    second.write_bytes(BEGINNING + b"".join(logged(step, {"loss": 0.5}, 1e9 + 100 + step) for step in range(5, 15)))
    found += read_all(source(path), cursor, final=True)[0]
    assert [*range(10), *range(5, 15)] == [r.step for r in found]


def test_keras_writes_evaluation_into_a_directory_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "validation" / NAME
    found = at_once(lambda: source(path), path, BEGINNING + record(event(2, {"epoch_loss": 0.5, "epoch_accuracy": 0.25})))
    assert [(2, {"eval_loss": 0.5, "eval_accuracy": 0.25})] == said(found)


def test_a_crash_between_two_rows_tells_none_twice_and_forgets_none(path: Path) -> None:
    path.write_bytes(BEGINNING + b"".join(logged(i, {"loss": 0.5, "lr": 0.1}, 1e9 + i) for i in range(5)))
    _, cursor = read_all(source(path), {})
    with path.open("ab") as file:
        file.write(b"".join(logged(i, {"loss": 0.5, "lr": 0.1}, 1e9 + i) for i in range(5, 12)))
    told, _ = read_all(source(path), cursor)
    resumed = source(path).resumed(cursor, told[2:3], 3)
    again, _ = read_all(source(path), json.loads(json.dumps(resumed)), final=True)
    assert [r.step for r in told[3:]] == [r.step for r in again]


CONTENT = st.lists(
    st.one_of(
        st.builds(
            lambda step, names: logged(step, dict.fromkeys(names, step / 8), 1e9 + step),
            st.integers(0, 9),
            st.lists(st.sampled_from(["loss", "lr", "val_loss", "x"]), min_size=1, max_size=4, unique=True),
        ),
        st.sampled_from([record(event(3, {"t": 1.0}, how="string")), record(b"\xff\xff"), b"\0" * 5, b"\x13" * 21]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(CONTENT, st.lists(st.integers(0, 1500), max_size=6))
def test_any_cutting_into_appends_gives_the_records_of_one_reading(parts: list[bytes], cuts: list[int]) -> None:
    content = BEGINNING + b"".join(parts)
    with tempfile.TemporaryDirectory() as directory:
        path, other = Path(directory) / "a" / NAME, Path(directory) / "b" / NAME
        whole = at_once(lambda: source(other), other, content)
        assert whole == in_pieces(lambda: source(path), path, content, cuts)
        assert [r._replace(seen=None) for r in whole] == list(source(other).whole(ignored))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcd"), st.floats()), max_size=40), st.lists(st.booleans()))
def test_joining_loses_nothing_and_goes_through_json(metrics: list[tuple[int, str, float]], stops: list[bool]) -> None:
    joiner, rows = Joiner(), []
    for at, (step, name, value) in enumerate(metrics):
        rows += joiner.add(step, float(at), name, value)
        if at < len(stops) and stops[at]:
            joiner = Joiner(json.loads(json.dumps(joiner.state(), allow_nan=False)))
    rows += joiner.flush()
    assert repr(metrics) == repr([(row.step, name, value) for row in rows for name, value in row.values.items()])


def test_a_directory_without_event_files_is_a_sentence(tmp_path: Path) -> None:
    cursor: Cursor = {}
    seen = EventFiles(tmp_path, "run").read(cursor, 1e9, 1.0)
    assert (False, f"There is no TensorBoard event file in {tmp_path} yet.") == (seen.sight.ok, seen.sight.why)
