"""wandb's offline files: blocks, checksums, nested names, how the process ended."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import STATE, Record
from smart_monitor.sources.wandb_offline import WandbFile
from tests.sources.cutting import at_once, ignored, in_pieces, read_all
from tests.sources.wandb_log import BLOCK, exit_record, history, log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run-a.wandb"


def source(path: Path) -> WandbFile:
    return WandbFile(path, "run")


def test_rows_with_nested_names_and_values_of_all_sorts_are_read(path: Path) -> None:
    row = {"train/loss": 0.5, "train.lr": 1e-3, "x.y.z": 2, "text": "a", "picture": {"_type": "image-file", "width": 8}}
    found = at_once(lambda: source(path), path, log([history(3, row), history(4, {"loss": math.nan, "kl": math.inf})]))
    assert (3, 0, {"loss": 0.5, "learning_rate": 1e-3, "x/y/z": 2}) == (found[0].step, found[0].index, found[0].values)
    assert (4, 1, True, math.inf) == (found[1].step, found[1].index, math.isnan(found[1].values["loss"]), found[1].values["kl"])


@pytest.mark.parametrize(("code", "state", "note"), [(0, "completed", ""), (3, "crashed", "exit code 3")])
def test_the_end_of_the_process_is_a_state(path: Path, code: int, state: str, note: str) -> None:
    found = at_once(lambda: source(path), path, log([history(1, {"loss": 0.5}), exit_record(code)]))
    assert (STATE, state, note) == (found[-1].kind, found[-1].state, found[-1].note)


def test_records_that_span_blocks_are_read_whole(path: Path) -> None:
    content = log([history(i, {"loss": 0.5, "pad": "x" * (i * 3001 % 70_000)}) for i in range(40)])
    assert list(range(40)) == [r.step for r in at_once(lambda: source(path), path, content)]


def test_damage_costs_the_rest_of_its_block_and_is_said(path: Path) -> None:
    content = bytearray(log([history(i, {"loss": i / 8}) for i in range(3000)]))
    content[BLOCK + 5000] ^= 0x55
    path.write_bytes(bytes(content))
    told: list[str] = []
    steps = [r.step or 0 for r in source(path).whole(told.append)]
    assert ["damaged" in t for t in told] == [True]
    assert 2999 == steps[-1]
    assert 3000 - BLOCK // 50 < len(steps) < 3000
    assert sorted(set(steps)) == steps


def test_a_torn_tail_waits(path: Path) -> None:
    content = log([history(i, {"loss": i / 8}) for i in range(5)])
    path.write_bytes(content[:-4])
    some, cursor = read_all(source(path), {})
    path.write_bytes(content)
    assert [0, 1, 2, 3] == [r.step for r in some]
    assert [4] == [r.step for r in read_all(source(path), cursor)[0]]


def test_a_file_of_something_else_is_said(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    seen = source(path).read({}, 1e9, 1.0)
    assert ((f"{path} is no file of wandb's.",), []) == (seen.oddities, seen.records)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=8), st.lists(st.integers(0, 100_000), max_size=6), st.booleans())
def test_any_cutting_into_appends_gives_the_records_of_one_reading(sizes: list[int], cuts: list[int], damage: bool) -> None:
    content = bytearray(log([history(i, {"loss": i / 7, "pad": "x" * size}) for i, size in enumerate(sizes)]))
    if damage:
        content[random.Random(len(content)).randrange(7, len(content))] ^= 1
    with tempfile.TemporaryDirectory() as directory:
        path, other = Path(directory) / "a" / "m.wandb", Path(directory) / "b" / "m.wandb"
        whole: list[Record] = at_once(lambda: source(other), other, bytes(content))
        assert whole == in_pieces(lambda: source(path), path, bytes(content), cuts)
        assert [r._replace(seen=None) for r in whole] == list(source(other).whole(ignored))
