"""`smart-monitor tune`, as a user types it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from smart_monitor.cli import cli
from smart_monitor.configfile import read


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, path = random.Random(1), tmp_path_factory.mktemp("past") / "run.jsonl"
    rows = ({"step": n, "loss": source.gauss(0.7, 0.02), "accuracy": source.gauss(80, 1)} for n in range(300))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def typed(*words: object) -> Result:
    return CliRunner().invoke(cli, ["tune", *map(str, words)])


def test_the_table_names_the_presets_and_the_file_holds_what_was_suggested(past: Path, tmp_path: Path):
    target = tmp_path / "smart_monitor.toml"
    done = typed(past, "--write", target)

    assert 0 == done.exit_code
    assert {"sensitive", "default", "quiet", "suggested"} <= {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert target.read_text() in done.stdout
    assert {"loss_spike_threshold", "accuracy_drop_threshold", "loss_window", "noise_guard"} == set(read(target))


def test_programs_get_one_document(past: Path):
    document = json.loads(typed(past, "--json").stdout)

    assert [{"name": "run", "records": 300, "cut": False}] == document["runs"]
    assert {"sensitive", "default, no guard", "suggested"} <= set(document["presets"])
    assert set(document["suggestion"]) == {"loss_spike_threshold", "accuracy_drop_threshold", "loss_window", "noise_guard"}


def test_a_file_that_is_there_is_replaced_only_by_force(past: Path, tmp_path: Path):
    target = tmp_path / "smart_monitor.toml"
    target.write_text("mine")

    assert (2, "mine") == (typed(past, "--write", target).exit_code, target.read_text())
    assert (0, True) == (typed(past, "--write", target, "--force").exit_code, target.read_text() != "mine")


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), ('{"step": 1, "lr": 0.1}\n', "nothing to tune")])
def test_what_cannot_be_tuned_is_one_sentence(tmp_path: Path, content: str | None, words: str):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_text(content)
    done = typed(path)

    assert (2, True) == (done.exit_code, words in done.stderr.splitlines()[-1])


def test_off_a_terminal_no_progress_is_drawn(past: Path):
    done = subprocess.run([sys.executable, "-m", "smart_monitor", "tune", str(past)], capture_output=True, text=True, check=True)

    assert "" == done.stderr
