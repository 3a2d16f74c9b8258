"""A run's directory as one source: what holds however its files are written and however often we start again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.model import RECORD, Record
from smart_monitor.sources import Cursor
from tests.following import SOON, Follower, append, row, status, steps, told

WRITES = st.lists(st.tuples(st.sampled_from("jcs"), st.integers(1, 400), st.booleans()), max_size=25)


@settings(deadline=None, max_examples=25)
@given(writes=WRITES)
def test_any_split_of_the_bytes_with_restarts_between_gives_the_same_records(writes: list[tuple[str, int, bool]]) -> None:
    jsonl = b"".join(row(s) for s in range(40))
    table = b"step,other\n" + b"".join(b"%d,%d\n" % (s, s * s) for s in range(40))
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        follower = Follower(base)
        found: list[Record] = []
        for which, count, restart in writes:
            if which == "s":
                status(base, count, accuracy=50)
            elif which == "j":
                append(base / "m.jsonl", jsonl[:count])
                jsonl = jsonl[count:]
            else:
                append(base / "m.csv", table[:count])
                table = table[count:]
            if restart:
                follower.start()
            found += follower.look(SOON)  # before the next search, and after it
            found += follower.look()
        append(base / "m.jsonl", jsonl)
        append(base / "m.csv", table)
        found += follower.look() + follower.look()
    if "s" not in {w for w, *_ in writes}:
        assert list(range(40)) == steps(found)
    assert [(s, float(s * s)) for s in range(40)] == [(s, v) for _, s, v in told(found, "other")]


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=12), saved=st.integers(0, 11), extra=st.booleans())
def test_what_was_judged_since_the_cursor_was_saved_is_not_given_again(lengths: list[int], saved: int, extra: bool) -> None:
    content = b"".join(row(s) for s in range(40))
    table = b"step,loss,other\n" + b"".join(b"%d,9,%d\n" % (s, s) for s in range(40))
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        follower = Follower(base)
        found: list[Record] = []
        after: list[Record] = []
        kept: Cursor = {}
        saved = min(saved, len(lengths) - 1)
        for at, length in enumerate(lengths):
            append(base / "m.jsonl", content[:length])
            append(base / "m.csv", table[:length])
            content, table = content[length:], table[length:]
            some = follower.look()
            found += some
            after += some
            if at == saved:
                kept, after = follower.cursor, []
        if extra:
            append(base / "m.jsonl", content)
            append(base / "m.csv", table)
        follower.cursor = kept
        follower.start()
        last = {r.source: {RECORD: r} for r in after}
        counts: dict[str, dict[str, int]] = {}
        for r in after:
            inner = counts.setdefault(r.source, {})
            inner[r.ids["file"]] = inner.get(r.ids["file"], 0) + 1
        follower.cursor = follower.source.taken_up(follower.cursor, last, counts)
        found += follower.look() + follower.look()
        if not extra:
            append(base / "m.jsonl", content)
            append(base / "m.csv", table)
            found += follower.look() + follower.look()
    assert list(range(40)) == sorted(s for s in steps(found) if s is not None)
    assert list(range(40)) == steps(found, "other")
