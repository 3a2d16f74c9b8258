"""The table of recall against false alarms, over a corpus made here."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench" / "frontier.py"


def corpus(directory: Path, names: tuple[str, ...]) -> None:
    """Runs of a calm loss with a spike of four times its level at row 380 and smaller ones at 300 and 350; those at the last two
    are labelled."""
    (directory / "runs").mkdir()
    labels = {}
    for number, name in enumerate(names, 1):
        noise = random.Random(number)
        losses = [noise.gauss(1, 0.1) for _ in range(400)]
        losses[300], losses[350], losses[380] = 1.5, 1.5, 4.0
        rows = "".join(json.dumps({"step": i, "loss": v}) + "\n" for i, v in enumerate(losses))
        (directory / "runs" / f"{name}.jsonl").write_text(rows, encoding="utf-8")
        labels[name] = [{"kind": "loss_spike", "i_start": i, "i_end": i, "confidence": "clear"} for i in (350, 380)]
    (directory / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def test_a_laxer_guard_catches_the_smaller_spike_and_cries_wolf_over_what_is_none(tmp_path: Path) -> None:
    corpus(tmp_path, ("made",))

    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "--factors", "0.3,1", "--jobs", "1"], capture_output=True, text=True, check=True
    )

    lax, strict = (line.split() for line in done.stdout.splitlines()[1:])
    assert (lax[3], lax[5], strict[3:7]) == ("2", "2", ["1", "of", "2", "0"])
    assert int(lax[6]) >= 1


def test_by_training_each_is_counted_by_itself_and_all_others_without_it(tmp_path: Path) -> None:
    corpus(tmp_path, ("first", "second", "alone"))
    (tmp_path / "index.csv").write_text("id,group\nfirst,of one\nsecond,of one\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "--by-training", "--jobs", "1"], capture_output=True, text=True, check=True
    )

    told = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [
        ["of", "one", "2", "800", "2", "of", "4", "0", "1", "of", "2,", "0.000"],
        ["alone", "1", "400", "1", "of", "2", "0", "2", "of", "4,", "0.000"],
    ] == told
