"""When a monitor ends by itself: with --once, and with --exit-when-done, at the first start and at later ones."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import command
from tests.daemon.watching import Monitor, Trainer


def test_once_judges_all_that_stands_there_also_where_it_was_run_before(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    for first, last in ((0, 2), (2, 400), (400, 400)):  # more than one look takes; then nothing new
        with log.open("a") as lines:
            lines.writelines(json.dumps({"step": s, "loss": 0.7, "note": "x" * 20_000}) + "\n" for s in range(first, last))
        assert 0 == command("watch", "--base-dir", tmp_path, "--once").returncode
        assert last == sum(line["kind"] == "record" for line in Monitor(tmp_path).journal())


def test_a_run_that_was_done_and_trains_again_is_watched_to_its_new_end(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.train(1)
    with Monitor(tmp_path, arguments=("--exit-when-done",)) as monitor:
        monitor.sees(1)
        trainer.write(status="completed")
        assert 0 == monitor.wait()
        trainer.write(step=5)
        monitor.start()
        monitor.sees(5)
        monitor.goes_on()
        assert monitor.process.poll() is None
        trainer.write(status="completed")
        assert 0 == monitor.wait()
