"""JSON lines by msgspec and by the standard library alone: the same rows, the same oddities, the same records."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smart_monitor.names import read_row
from smart_monitor.sources import jsonl
from smart_monitor.sources.appended import Place
from smart_monitor.sources.jsonl import JsonLines
from tests.sources.cutting import at_once, in_pieces

ROOT = Path(__file__).parents[2]
both = pytest.mark.skipif(importlib.util.find_spec("msgspec") is None, reason="msgspec is not installed (extra fast)")
quiet = [HealthCheck.too_slow]


@contextmanager
def without_msgspec() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_fast", lambda: None)
        yield


def reading(block: bytes) -> str:
    """Everything that the lines of `block` say, types, order of keys and signs of zeros included."""
    place = Place()
    found = list(jsonl._rows(block, place))
    readings = [(index, read_row(row), outline(row)) for index, row in found]
    return repr((readings, place.row, place.odd, place.oddities))


def outline(value: Any) -> list[str]:
    """All that is in a parsed value, in order, told without recursion."""
    parts, waiting = [], [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, (dict, list)):
            parts.append(f"{type(inner).__name__} of {len(inner)}")
            waiting += [x for pair in inner.items() for x in pair] if isinstance(inner, dict) else inner
        else:
            parts.append(repr(inner))
    return parts


def nested(depth: int, opening: str, inner: str, closing: str) -> str:
    return '{"loss": 1, "x": ' + opening * depth + inner + closing * depth + "}"


INTEGERS = st.one_of(st.integers(), st.integers(60, 5000).map(lambda n: 10**n // 7 if n < 4300 else -1)).map(str)
NUMBERS = st.one_of(
    INTEGERS,
    st.floats().map(repr),
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.integers(300, 5000).map(lambda n: "9" * n),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "-NaN", "nan", "-0", "-0.0", "0e9", "01", "1.", ".5", "+1", "1_0"]),
    st.sampled_from(["1e400", "-1e400", "1e-400", "5e-324", "1e308", "1.7976931348623159e308", "1e99999999999"]),
    st.sampled_from(["18446744073709551615", "18446744073709551616", "-9223372036854775809", "9007199254740993"]),
)
ESCAPES = st.sampled_from([r"\u00e9", r"\ud83d", r"\ude00", r"\uD83D\uDE00", r"\u0000", r"\n", r"\/", r"\\", r"\q", r"\u12"])
TEXTS = st.one_of(st.text(max_size=4), st.lists(st.one_of(ESCAPES, st.characters()), max_size=4).map("".join)).map(
    lambda text: f'"{text}"'
)
KEYS = st.one_of(st.sampled_from(['"step"', '"loss"', '"lr"', '"train"', '"epoch"', '"pid"', '"l\\u006fss"', '""']), TEXTS)
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", "\v", "\ufeff", "\x00", "\xa0"])


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(KEYS, SPACE, values, SPACE).map(lambda p: f"{p[0]}{p[1]}:{p[3]}{p[2]}")
    comma = st.sampled_from([",", ",", ", ", ",,"])
    return st.one_of(
        st.tuples(st.lists(values, max_size=4), comma).map(lambda p: f"[{p[1].join(p[0])}]"),
        st.tuples(st.lists(pair, max_size=6), comma).map(lambda p: "{" + p[1].join(p[0]) + "}"),
    )


VALUES = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.sampled_from(["true", "false", "null", "None", "tru"])), containers, max_leaves=12
)
DEEP = st.tuples(st.one_of(st.integers(1, 300), st.integers(850, 1100)), st.sampled_from([("[", "1", "]"), ('{"a":', "1", "}")]))
LINES = st.one_of(
    st.tuples(SPACE, containers(VALUES), SPACE).map("".join),
    VALUES,
    DEEP.map(lambda d: nested(d[0], *d[1])),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
TORN = st.tuples(LINES, st.integers(0, 200), st.binary(max_size=2)).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :])
CUT = st.tuples(LINES, st.integers(0, 60)).map(lambda t: t[0][: t[1]])
ANY_LINE = st.one_of(LINES, TORN, CUT, st.binary(max_size=12))


@both
def test_msgspec_reads_the_usual_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    decode = jsonl._fast()
    assert decode is not None
    monkeypatch.setattr(jsonl, "_fast", lambda: lambda line: taken.append(row := decode(line)) or row)
    reading(b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n' + b'{"step": 3, "train": {"loss": 1}}')
    assert [1, 3] == [row["step"] for row in taken]


@both
@settings(deadline=None, suppress_health_check=quiet, max_examples=3 * settings.default.max_examples)
@given(ANY_LINE)
@example(b'{"step": 1, "step": 2, "loss": 1, "loss": -0.0, "train": {"loss": 3, "loss": 4}}')
@example(b'{"loss": 1e400, "lr": -1e400, "step": 36893488147419103232, "note": "\\ud800"}')
@example(b'{"loss": "\xed\xa0\x80", "\xff": 1, "lr": Infinity, "step": -0}')
@example(b'\xef\xbb\xbf{"loss": 1}\r')
@example(b'{"loss": 1}\x00')
@example(b'{"loss": 1} {"loss": 2}')
@example(b'{"loss":\n1}')
def test_any_line_says_the_same_with_and_without_msgspec(line: bytes) -> None:
    fast = reading(line)
    with without_msgspec():
        assert reading(line) == fast


@both
@settings(deadline=None, suppress_health_check=quiet, max_examples=3 * settings.default.max_examples)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 45), st.text("0123456789", min_size=1, max_size=60))
def test_numbers_are_rounded_alike_to_the_last_bit(number: float, digits: int, tail: str) -> None:
    block = f'{{"loss": {number:.{digits}e}, "lr": {number!r}}}\n{{"loss": 0.{tail}, "lr": 1{tail}.{tail}}}'.encode()
    fast = reading(block)
    with without_msgspec():
        assert reading(block) == fast


@both
@pytest.mark.parametrize("kind", [("[", "1", "]"), ('{"a":', "1", "}")])
def test_nesting_is_given_up_at_the_same_depth(kind: tuple[str, str, str]) -> None:
    for depth in (*range(1, 850, 7), *range(850, 1010), 100_000):
        line = nested(depth, *kind).encode()
        fast = reading(line)
        with without_msgspec():
            assert reading(line) == fast, depth


@both
@settings(deadline=None, suppress_health_check=quiet, max_examples=50)
@given(st.lists(ANY_LINE, max_size=12), st.lists(st.integers(0, 500), max_size=5), st.booleans())
def test_a_file_cut_anywhere_gives_the_same_records_with_and_without_msgspec(
    lines: list[bytes], cuts: list[int], end: bool
) -> None:
    content = b"\n".join(lines) + (b"\n" if end else b"")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pieces" / "m.jsonl"
        fast = in_pieces(lambda: JsonLines(path, "run"), path, content, cuts)
        with without_msgspec():
            whole = Path(directory) / "whole" / "m.jsonl"
            assert repr(at_once(lambda: JsonLines(whole, "run"), whole, content)) == repr(fast)


LOADED = """
import sys
if {absent}:
    sys.modules["msgspec"] = None
from pathlib import Path
import smart_monitor.cli, smart_monitor.daemon.loop
from smart_monitor.sources import Options, formats
source = next(f for f in formats() if f.name == "jsonl").open(Path(sys.argv[1]), "run", "", Options())
before = bool(sys.modules.get("msgspec"))
print(before, [r.values for r in source.whole(print)])
"""


@pytest.mark.parametrize("absent", [False, True])
def test_msgspec_is_loaded_by_nothing_but_reading_and_its_absence_is_silent(tmp_path: Path, absent: bool) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n')
    code = LOADED.format(absent=absent)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ("False [{'loss': 0.5}]\n", "") == (done.stdout, done.stderr)
