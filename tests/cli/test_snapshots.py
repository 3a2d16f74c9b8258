"""`smart-monitor snapshots`: what each command prints, what it ends with, and that nothing printed can forge a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import command, environment
from tests.snapshots.made import DAY, made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four snapshots: of 60, 50 and 40 days ago, which the rules would thin out, and a best of a year ago."""
    now = time.time()
    for days in (60, 50, 40):
        made(tmp_path, "loss_spike_37.8pct", at=now - days * DAY, step=100 - days)
    made(tmp_path, "best_model_loss_0.5000", at=now - 365 * DAY, step=1, value=0.5)
    return tmp_path


def sm(run: Path, *arguments: str, code: int = 0) -> str:
    found = command("snapshots", *arguments, "--base-dir", run)
    assert code == found.returncode, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    return found.stdout if code == 0 else found.stdout + found.stderr


def names(run: Path) -> list[str]:
    return sorted(os.listdir(run / "snapshots"))


def test_list_tells_age_reason_step_size_pin_and_checkpoint(run: Path) -> None:
    sm(run, "pin", names(run)[0])
    header, first, *others, total = sm(run, "list").splitlines()
    assert ["AGE", "REASON", "STEP", "SIZE", "PIN", "CHECKPOINT", "NAME"] == header.split()
    assert ["365", "d", "best_model", "1", "1.1", "KiB", "yes", "checkpoint-1", names(run)[0]] == first.split()
    assert 3 == len(others)
    assert "4 snapshots, 3.8 KiB" == total
    found = json.loads(sm(run, "list", "--json"))
    assert [True, False, False, False] == [s["pinned"] for s in found]
    assert names(run) == [s["name"] for s in found]


def test_list_is_narrowed_by_reason_and_time(run: Path) -> None:
    def listed(*arguments: str) -> list[str]:
        return [s["name"] for s in json.loads(sm(run, "list", "--json", *arguments))]

    assert names(run)[:1] == listed("--reason", "best_model")
    assert names(run)[1:] == listed("--reason", "loss_spike")
    assert names(run)[2:] == listed("--since", "55d")
    assert names(run)[3:] == listed("--since", "55d", "--since", "1000h")
    assert names(run) == listed("--since", "2001-01-01")
    assert [] == listed("--reason", "best_model", "--since", "30min")
    assert "None of the 4 snapshots" in sm(run, "list", "--since", "1d")


def test_prune_names_the_rule_behind_each_and_drops_only_when_it_is_not_dry(run: Path) -> None:
    all_of_them = names(run)
    dry = sm(run, "prune", "--keep-last", "1", "--dry-run")
    assert all_of_them == names(run)
    assert "4 snapshots" not in dry
    kept = [line.split("  ") for line in dry.splitlines()[:-1]]
    assert [
        ["keep", all_of_them[0], "(current best)"],
        ["drop", all_of_them[1], "(older than 30 days and not among the last 1 of loss_spike)"],
        ["drop", all_of_them[2], "(older than 30 days and not among the last 1 of loss_spike)"],
        ["keep", all_of_them[3], "(newest verified)"],
    ] == [[k[0], *k[-2:]] for k in kept]
    assert dry.endswith("2 kept, 2 would be dropped, 1.8 KiB would be freed\n")
    document = json.loads(sm(run, "prune", "--keep-last", "1", "--json"))
    assert [False, True, True, False] == [s["dropped"] for s in document["snapshots"]]
    assert [all_of_them[0], all_of_them[3]] == names(run)
    assert "2 kept, 0 dropped, 0 B freed" in sm(run, "prune", "--keep-last", "1")
    gone = sm(run, "show", all_of_them[1], code=2)
    assert f"{all_of_them[1]} was dropped on" in gone.replace("\n", " ")
    assert "older than 30 days" in gone


def test_prune_obeys_the_settings_of_the_run(run: Path) -> None:
    assert "4 kept" in sm(run, "prune", "--dry-run")
    (run / "smart_monitor.toml").write_text("[retention]\nkeep = 'lean'\n")
    assert "2 kept, 2 would be dropped" in sm(run, "prune", "--dry-run")
    (run / "smart_monitor.toml").write_text("[retention]\nkeep = 'lean'\nkeep_days_for = ['loss_spike=55']\n")
    assert "3 kept, 1 would be dropped" in sm(run, "prune", "--dry-run")


def test_what_is_pinned_stays_until_it_is_unpinned(run: Path) -> None:
    name = names(run)[1]
    assert f"Pinned {name}\n" == sm(run, "pin", name[:-3])
    assert f"Was pinned already: {name}\n" == sm(run, "pin", name)
    assert f"{'pinned':<15} since " in sm(run, "show", name)
    sm(run, "prune", "--keep-last", "1")
    assert name in names(run)
    assert f"Unpinned {name}\n" == sm(run, "unpin", name)
    assert f"Was not pinned: {name}\n" == sm(run, "unpin", name)
    sm(run, "prune", "--keep-last", "1")
    assert name not in names(run)


def test_pins_that_can_not_be_read_stop_every_prune(run: Path) -> None:
    (run / ".smart_monitor").mkdir()
    (run / ".smart_monitor" / "pins.json").write_text("{")
    for arguments in (("prune",), ("prune", "--dry-run"), ("pin", names(run)[0])):
        assert "pins.json can't be used" in sm(run, *arguments, code=1)
    assert "pins.json can't be used" in command("snapshots", "list", "--base-dir", run).stderr
    assert 4 == len(names(run))


def test_diff_ends_with_one_if_anything_differs(run: Path) -> None:
    a, b = names(run)[1:3]
    assert "Files: 0 different, 2 the same" in sm(run, "diff", a, a)
    said = sm(run, "diff", a, b, code=1)
    assert "step             40 → 50" in said
    assert "Files: 1 different, 1 the same" in said
    document = json.loads(sm(run, "diff", a, b, "--json", code=1))
    assert document["different"]
    assert {"name": "step", "before": 40, "after": 50} in document["fields"]


def test_restore_says_where_to_and_how_to_resume_and_refuses_twice(run: Path, tmp_path: Path) -> None:
    name = names(run)[3]
    target = tmp_path / "again"
    said = sm(run, "restore", name, "--to", str(target))
    assert "1 files" not in said
    assert f'trainer.train(resume_from_checkpoint="{target}")' in said
    assert "Look at step 60." in said
    assert ["model.safetensors"] == os.listdir(target)
    assert "is there already; --to takes another directory" in sm(run, "restore", name, "--to", str(target), code=2).replace(
        "\n", " "
    )
    assert "put aside" in sm(run, "restore", name, "--to", str(target), "--force")
    sm(run, "restore", name)
    assert [name] == os.listdir(run / "restored")
    assert "no last good checkpoint" in sm(run, "restore", name, "--last-good", code=1)
    assert "snapshots/ is ours" in sm(run, "restore", name, "--to", str(run / "snapshots" / "x"), code=2)


def test_restore_refuses_a_flipped_bit_unless_told_otherwise(run: Path, tmp_path: Path) -> None:
    path = run / "snapshots" / names(run)[3]
    [weights] = path.glob("model/*/model.safetensors")
    weights.write_bytes(b"L" + weights.read_bytes()[1:])
    assert "is not what was published" in sm(run, "restore", path.name, "--to", str(tmp_path / "x"), code=1)
    assert not (tmp_path / "x").exists()
    found = command("snapshots", "restore", path.name, "--to", tmp_path / "x", "--unverified", "--base-dir", run)
    assert 0 == found.returncode
    assert "model/checkpoint-60/model.safetensors is not what was published" in found.stderr


def test_nothing_that_is_printed_can_forge_a_line_or_move_the_cursor(tmp_path: Path) -> None:
    evil = "checkpoint\x1b[2J\n-1"
    path = made(
        tmp_path, at=time.time(), files={f"model/{evil}/w\r.safetensors": b"1"}, note="a\x1b]0;b\x07", run="r\n",
        checkpoint={"name": evil, "source": "/x\x1b[1m", "step": 1, "layout": "hf_trainer"}, reason_="",
    )  # fmt: skip
    other = made(tmp_path, "stall", at=time.time() - 5)
    (path / "model" / "ex\x1btra").write_text("")
    for arguments, code in (
        (("list",), 0), (("show", path.name), 0), (("verify",), 1), (("prune", "--dry-run"), 0),
        (("diff", path.name, other.name), 1), (("restore", path.name, "--to", str(tmp_path / "to")), 0),
    ):  # fmt: skip
        said = sm(tmp_path, *arguments, code=code)
        assert not [c for c in said if not c.isprintable() and c != "\n"], arguments


def test_work_of_more_than_a_second_shows_a_bar_on_a_terminal_and_none_in_a_pipe(tmp_path: Path) -> None:
    path = made(tmp_path, at=time.time(), files={"model/checkpoint-1/model.safetensors": b"x" * 9_000_000})
    code = (
        "import sys, smart_monitor.cli._progress as p; p.AFTER = 0.0; from smart_monitor.cli import main; "
        f"sys.argv = ['smart-monitor', 'snapshots', 'verify', '--base-dir', {str(tmp_path)!r}]; main()"
    )
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        said += piece
    os.close(ours)
    out, _ = done.communicate()
    assert 0 == done.returncode
    assert b"Verifying" in said
    assert f"ok   {path.name}\n1 snapshot, 0 bad\n".encode() == out
    piped = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=True)
    assert b"" == piped.stderr
