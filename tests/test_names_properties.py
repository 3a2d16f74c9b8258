"""Laws that hold for every row there can be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor import names
from smart_monitor.aliases import FACTS, FLAT, METRICS
from smart_monitor.names import MAX_METRICS, MAX_STEP, read_row

KEYS = st.one_of(st.sampled_from(sorted(FLAT)), st.text(max_size=12))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=-(10**400), max_value=10**400), st.floats(),
    st.text(max_size=12), st.floats().map(str), st.integers().map(str), st.datetimes().map(str),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
ROWS = st.dictionaries(KEYS, ANYTHING, max_size=12)


@given(ROWS)
def test_any_row_gives_a_reading_within_its_bounds(row: dict[str, Any]) -> None:
    reading = read_row(row)
    assert all(type(value) is float for value in reading.values.values())
    assert all(type(name) is str and name.isprintable() for name in reading.values)
    assert len(reading.values) <= MAX_METRICS
    assert reading.step is None or (type(reading.step) is int and 0 <= reading.step <= MAX_STEP)
    assert reading.total is None or 0 < reading.total <= MAX_STEP
    assert reading.by in ("step", "episode", "epoch", "row")
    assert reading.state in ("", "training", "idle", "completed", "crashed")
    assert reading.by != "row" or reading.step is None
    assert set(reading.nulls) <= set(METRICS) - set(reading.values)
    assert all(text.isprintable() for text in (*reading.oddities, reading.note, *reading.ids.values()))
    json.dumps((reading.ids, reading.note)).encode()


@given(ROWS)
def test_reading_does_not_depend_on_what_was_read_before(row: dict[str, Any]) -> None:
    first = read_row(row)
    for i in range(300):
        read_row({f"key {i}": 1})
    names._cache.clear()
    assert repr(first) == repr(read_row(row))


@given(st.permutations(["loss", "train_loss", "training_loss", "last_loss", "train/loss"]))
def test_the_order_of_keys_in_a_row_decides_nothing(keys: list[str]) -> None:
    row = {key: float(i) for i, key in enumerate(sorted(keys))}
    assert {"loss": row["loss"]} == read_row({key: row[key] for key in keys}).values


def test_every_alias_of_the_tables_is_understood_alone() -> None:
    for canonical, aliases in METRICS.items():
        for alias in aliases:
            assert {canonical: 1.0} == read_row({alias: 1}).values
    assert not {key for keys in FACTS.values() for key in keys} & {alias for aliases in METRICS.values() for alias in aliases}


def test_the_memory_of_keys_is_bounded() -> None:
    for i in range(10_000):
        read_row({f"hostile {i}": 1, "x" * 300 + str(i): 2})
    assert len(names._cache) <= 4096


NUMBERS = st.one_of(st.floats(), st.integers(-2, 2**53 + 1), st.integers(0, 9).map(str), st.booleans(), st.none())
USUAL = st.dictionaries(
    st.one_of(st.sampled_from(["step", "epoch", "loss", "train_loss", "train_runtime", "has_nan", "lr"]), KEYS),
    NUMBERS,
    max_size=6,
)


@settings(max_examples=4 * settings.default.max_examples)
@given(USUAL.map(lambda row: row | {"step": 7}) | USUAL | ROWS)
def test_the_short_way_reads_a_row_as_the_long_way_does(row: dict[str, Any]) -> None:
    short, long = names._as_usual(row), names._looked_at(row, "")
    assert short is None or repr(short) == repr(long)
    assert repr(read_row(row)) == repr(long)


def test_the_rows_that_runs_are_full_of_are_read_the_short_way() -> None:
    usual = {"loss": 2.1, "grad_norm": 1, "learning_rate": 1e-4, "epoch": 0.5, "step": 10, "train/entropy": 0.1}
    assert names._as_usual(usual) is not None
    assert names._as_usual({**usual, "step": 1.0}) is None
    assert names._as_usual({**usual, "train_loss": 2.0}) is None
