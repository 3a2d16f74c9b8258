"""`replay --explain` and `replay --plot`, as a user types them."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from smart_monitor.cli import cli
from smart_monitor.config import Settings
from smart_monitor.model import Record
from smart_monitor.plotting import INSTALL, Film, PlotError, available, draw
from smart_monitor.replay import replay

needs_matplotlib = pytest.mark.skipif(not available(), reason=f"matplotlib is not installed: {INSTALL}")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """300 rows: calm, a spike, a NaN, a restart, an accuracy that collapses."""
    source, path, rows = random.Random(3), tmp_path / "run.jsonl", []
    for n in range(300):
        step = n if n < 200 else n - 120
        row = {
            "step": step,
            "loss": source.gauss(0.7, 0.01),
            "accuracy": source.gauss(70, 1),
            "grad_norm": source.uniform(0.8, 1.2),
        }
        if n == 100:
            row["loss"] = 2.0
        if n == 150:
            row["loss"] = float("nan")
        if n >= 270:
            row["accuracy"] -= 40
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n")
    return path


def typed(*words: object) -> Result:
    return CliRunner().invoke(cli, ["replay", *map(str, words)])


def test_explain_tells_the_spike_and_keeps_the_exit_code_of_replay(recorded: Path):
    done = typed(recorded, "--explain", 100)

    assert (1, True) == (done.exit_code, "loss_spike" in done.stdout)
    assert "step 100: record 100 of run, attempt 1" == done.stdout.splitlines()[0]
    assert 1 == typed(recorded).exit_code


def test_a_step_that_two_attempts_made_is_explained_twice(recorded: Path):
    rows = [json.loads(line) for line in typed(recorded, "--explain", 150, "--format", "jsonl").stdout.splitlines()]

    assert {(150, 1), (270, 2)} == {(row["record"], row["attempt"]) for row in rows}
    assert {"explanation"} == {row["event"] for row in rows}
    assert {("nan", "fired"), ("accuracy_drop", "fired")} <= {(row["rule"], row["said"]) for row in rows}


def test_an_unknown_step_is_wrong_use_and_one_sentence(recorded: Path):
    done = typed(recorded, "--explain", 999)

    assert 2 == done.exit_code
    assert "Error: no record of step 999 in run; the nearest is 199" == done.stderr.splitlines()[-1]


def test_without_matplotlib_one_sentence_says_what_to_install(recorded: Path, tmp_path: Path):
    code = (
        "import sys, importlib.machinery as m; find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a)\n"
        "sys.argv = ['smart-monitor', 'replay', *sys.argv[1:]]; import smart_monitor.cli; smart_monitor.cli.main()"
    )
    call = [sys.executable, "-c", code, str(recorded), "--plot", str(tmp_path / "x.png")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)

    assert (2, 'Error: --plot needs matplotlib: pip install "smart-monitor[plot]"') == (
        done.returncode,
        done.stderr.splitlines()[-1],
    )


@needs_matplotlib
def test_a_run_is_drawn_at_1600_by_900(recorded: Path, tmp_path: Path):
    picture = tmp_path / "run.png"
    done = typed(recorded, "--plot", picture)
    head = picture.read_bytes()[:24]

    assert (1, b"\x89PNG") == (done.exit_code, head[:4])
    assert (1600, 900) == struct.unpack(">II", head[16:24])
    assert typed(recorded).stdout == done.stdout


@needs_matplotlib
def test_a_picture_that_cannot_be_written_is_one_sentence(recorded: Path, tmp_path: Path):
    done = typed(recorded, "--plot", tmp_path / "nowhere" / "x.png")

    assert (2, True) == (done.exit_code, "No such file or directory" in done.stderr.splitlines()[-1])


@needs_matplotlib
@pytest.mark.parametrize("values", [{"loss": 1e99}, {"loss": -1.0}, {"loss": 0.0}, {"accuracy": 0.5}, {"grad_norm": 5e-324}])
def test_runs_of_one_odd_record_are_drawn(tmp_path: Path, values: dict[str, float]):
    film = Film()
    film.add(Record("odd", "s", 0, 0, values=values), [])
    draw(film, tmp_path / "odd.png")

    assert (tmp_path / "odd.png").stat().st_size > 1000


@needs_matplotlib
def test_a_run_without_any_curve_is_one_sentence(tmp_path: Path):
    film = Film()
    film.add(Record("bare", "s", 0, 0, values={"loss": float("nan"), "grad_norm": 1e308}), [])

    with pytest.raises(PlotError, match="nothing to draw in bare"):
        draw(film, tmp_path / "x.png")


def test_two_runs_do_not_fit_one_picture(recorded: Path, tmp_path: Path):
    assert "give one PATH" in typed(recorded, recorded, "--plot", tmp_path / "x.png").stderr


def test_a_film_keeps_restarts_findings_and_breaks_the_line(recorded: Path):
    film = Film()
    for record, outputs in replay(recorded, Settings()):
        film.add(record, outputs)

    assert [80.0] == film.restarts
    assert {"loss_spike", "nan", "accuracy_drop"} <= {f.kind for _, f in film.findings}
    assert 301 == len(film.curves["loss"].x)
