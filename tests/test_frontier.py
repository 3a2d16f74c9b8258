"""The table of recall against false alarms, over a corpus made here."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench" / "frontier.py"


def test_a_laxer_guard_catches_the_smaller_spike_and_cries_wolf_over_what_is_none(tmp_path: Path) -> None:
    noise = random.Random(1)
    losses = [noise.gauss(1, 0.1) for _ in range(400)]
    losses[300], losses[350], losses[380] = 1.5, 1.5, 4.0
    (tmp_path / "runs").mkdir()
    rows = "".join(json.dumps({"step": i, "loss": v}) + "\n" for i, v in enumerate(losses))
    (tmp_path / "runs" / "made.jsonl").write_text(rows, encoding="utf-8")
    events = [{"kind": "loss_spike", "i_start": i, "i_end": i, "confidence": "clear"} for i in (350, 380)]
    (tmp_path / "labels.json").write_text(json.dumps({"made": events}), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "--factors", "0.3,1", "--jobs", "1"], capture_output=True, text=True, check=True
    )

    lax, strict = (line.split() for line in done.stdout.splitlines()[1:])
    assert (lax[3], lax[5], strict[3:7]) == ("2", "2", ["1", "of", "2", "0"])
    assert int(lax[6]) >= 1
