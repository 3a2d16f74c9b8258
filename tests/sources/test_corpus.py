"""Real logs: every one is read whole by the format that is found; one run in several formats gives the same records."""

from __future__ import annotations

import csv
import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.config import Settings
from smart_monitor.discovery import find
from smart_monitor.following import RunSource
from smart_monitor.model import RECORD, Record
from smart_monitor.sources.status_json import StatusFile
from tests.sources import corpus
from tests.sources.cutting import read_all
from tests.sources.test_writers import ran

Rows = list[dict[str, Any]]
Series = dict[str, list[tuple[int | None, str]]]


def test_every_log_is_found_and_no_row_of_it_is_lost(tmp_path: Path) -> None:
    for path in corpus.logs():
        base = tmp_path / path.stem
        base.mkdir()
        (base / path.name).symlink_to(path)
        [seen] = find(base).chosen
        oddities: list[str] = []
        found = list(seen.open("run").whole(oddities.append))
        rows = corpus.rows_of(path)
        assert "jsonl" == seen.format.name
        assert list(range(len(rows))) == [r.index for r in found], path.name
        assert [] == [o for o in oddities if not o.endswith("is not usable")], path.name  # a step of 0.04 is an epoch
        lost = [
            n for n, (row, r) in enumerate(zip(rows, found, strict=True)) if not row.keys() - {"step", "epoch"} <= {*r.values}
        ]
        assert [] == lost, path.name


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_what_is_followed_live_is_what_is_read_at_once(tmp_path: Path, kind: str) -> None:
    path = corpus.shortest(kind)
    lines = path.read_bytes().splitlines(keepends=True)
    [seen] = find(path.parent, only=path.name).chosen
    source, cursor, live = RunSource(tmp_path, "run", Settings()), {}, list[Record]()
    for at in range(0, len(lines), 7):
        with (tmp_path / path.name).open("ab") as file:
            file.writelines(lines[at : at + 7])
        some, cursor = read_all(source, cursor, mono=1.0 + at)
        live += some
    assert series(live) == series(list(seen.open("run").whole(print)))


def series(found: Sequence[Record]) -> Series:
    """Metric -> (step, value) of every record that has it, in order; values spelled, for NaN is not equal to itself."""
    out: Series = {}
    for record in found:
        for name, value in record.values.items():
            out.setdefault(name, []).append((record.step, repr(value)))
    return out


def rounded(values: Series) -> Series:
    """As it is after a journey through single precision, which is what TensorBoard keeps."""

    def single(text: str) -> str:
        value = float(text)
        return repr(struct.unpack("f", struct.pack("f", value))[0] if math.isfinite(value) else value)

    return {name: [(step, single(value)) for step, value in line] for name, line in values.items()}


# -- written here ---------------------------------------------------------------------------------


def as_json_lines(base: Path, rows: Rows) -> None:
    (base / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_csv(base: Path, rows: Rows) -> None:
    with (base / "m.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        table.writeheader()
        table.writerows(rows)


def as_trainer_state(base: Path, rows: Rows) -> None:
    (base / "trainer_state.json").write_text(json.dumps({"log_history": rows, "global_step": rows[-1]["step"]}), encoding="utf-8")


def as_prints(base: Path, rows: Rows) -> None:
    said = [f"step {row['step']} | " + " | ".join(f"{k}: {v!r}" for k, v in row.items() if k != "step") for row in rows]
    (base / "train.log").write_text("\n".join(said) + "\n", encoding="utf-8")


@pytest.mark.parametrize("kind", corpus.KINDS)
@pytest.mark.parametrize(("write", "source"), [
    (as_json_lines, "jsonl"), (as_csv, "csv"), (as_trainer_state, "trainer_state"), (as_prints, "text"),
])  # fmt: skip
def test_one_run_in_several_formats_gives_the_same_records(
    tmp_path: Path, kind: str, write: Callable[[Path, Rows], None], source: str
) -> None:  # fmt: skip
    path = corpus.shortest(kind)
    write(tmp_path, corpus.rows_of(path))
    assert series(whole(path.parent, path.name)) == series(whole(tmp_path, source))


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_the_status_file_says_the_same_row_by_row(tmp_path: Path, kind: str) -> None:
    path = corpus.shortest(kind)
    source, cursor, found = StatusFile(tmp_path, "run"), {}, list[Record]()
    for at, row in enumerate(corpus.rows_of(path)):
        new = tmp_path / "new"
        new.write_text(json.dumps(row), encoding="utf-8")
        os.utime(new, ns=(at * 10**9,) * 2)  # written a second apart
        new.replace(tmp_path / "training_status.json")
        some, cursor = read_all(source, cursor, mono=float(at))
        found += some
    assert series(whole(path.parent, path.name)) == series(found)


def whole(base: Path, source: str) -> list[Record]:
    """Every record of the source that is found there."""
    [seen] = find(base, only=source, live=False).chosen
    return [r for r in seen.open("run").whole(print) if r.kind == RECORD]


# -- written by who writes them in life -----------------------------------------------------------


@pytest.mark.writers
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("writer", "needs", "source"), [
    ("summary_writer", "torch tensorboard", "tensorboard"), ("lightning", "lightning", "csv"), ("wandb", "wandb", "wandb"),
    ("mlflow", "mlflow", "mlflow"), ("transformers", "transformers", "trainer_state"), ("trackio", "trackio", "trackio"),
])  # fmt: skip
def test_runs_written_again_by_real_loggers_give_the_same_records(tmp_path: Path, writer: str, needs: str, source: str) -> None:
    pairs = [(tmp_path / kind, corpus.shortest(kind)) for kind in corpus.KINDS]
    ran("written_again", needs, tmp_path, writer, *(str(part) for pair in pairs for part in pair))
    for base, path in pairs:
        expected, found = series(whole(path.parent, path.name)), series(whole(base, source))
        if writer == "summary_writer":
            expected, found = rounded(expected), rounded(found)
        assert expected == {name: line for name, line in found.items() if name in expected}
