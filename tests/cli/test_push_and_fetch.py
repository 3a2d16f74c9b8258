"""Snapshots sent to a remote and brought back by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from smart_monitor.snapshots.verify import verify
from tests.command_line import command
from tests.snapshots.remote.rig import snapshot_in

MODEL = "model/checkpoint-500/model.safetensors"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_what_was_pushed_can_be_fetched_after_the_machine_is_gone(tmp_path: Path):
    run, far = tmp_path / "run 1", tmp_path / "far"
    here = snapshot_in(run)
    done = command("snapshots", "push", "--base-dir", run, "--to", far)
    assert (0, "") == (done.returncode, done.stderr)
    assert f"ok   {here.name} stands at file://{far}/run 1/{here.name}" in done.stdout
    shutil.rmtree(run)

    listed = command("snapshots", "fetch", "--run", "run 1", "--from", far, cwd=tmp_path)
    back = command("snapshots", "fetch", "anomaly_", "--run", "run 1", "--from", far, "--to", tmp_path / "back", cwd=tmp_path)

    assert (0, f"{here.name}\n") == (listed.returncode, listed.stdout)
    assert (0, "") == (back.returncode, back.stderr)
    assert verify(tmp_path / "back") == []
    assert (tmp_path / "back" / MODEL).stat().st_mode & 0o777 == 0o600


def test_push_says_when_there_is_nothing_to_send_and_mends_what_is_wrong_there_when_asked(tmp_path: Path):
    run, far = tmp_path / "run", tmp_path / "far"
    here = snapshot_in(run)
    command("snapshots", "push", "--base-dir", run, "--to", far)
    flip(far / "run" / here.name / MODEL)

    again = command("snapshots", "push", "--base-dir", run, "--to", far)
    mended = command("snapshots", "push", here.name, "--verify", "--json", "--base-dir", run, "--to", far)

    assert again.stdout == f"Nothing to send: every snapshot is known to stand at file://{far}.\n"
    assert json.loads(mended.stdout)["sent"][0]["moved"] == (here / MODEL).stat().st_size
    assert verify(far / "run" / here.name) == []


def test_push_verify_reads_every_byte_there_again_though_all_is_known_to_stand_there(tmp_path: Path):
    run, far = tmp_path / "run", tmp_path / "far"
    here = snapshot_in(run)
    command("snapshots", "push", "--base-dir", run, "--to", far)
    flip(far / "run" / here.name / MODEL)

    done = command("snapshots", "push", "--verify", "--json", "--base-dir", run, "--to", far)

    assert [here.name] == [sent["sent"] for sent in json.loads(done.stdout)["sent"]]
    assert verify(far / "run" / here.name) == []


def test_push_of_what_is_refused_exits_1_and_says_why(tmp_path: Path):
    run, far = tmp_path / "run", tmp_path / "far"
    here = snapshot_in(run)
    flip(here / MODEL)

    done = command("snapshots", "push", "--base-dir", run, "--to", far)

    assert done.returncode == 1
    assert done.stdout == (f"BAD  {here.name}: it is damaged here and is not sent: {MODEL} is no longer what SHA256SUMS says\n")


def test_fetch_brings_nothing_that_is_damaged_or_in_the_way(tmp_path: Path):
    run, far, back = tmp_path / "run", tmp_path / "far", tmp_path / "back"
    here = snapshot_in(run)
    command("snapshots", "push", "--base-dir", run, "--to", far)
    back.mkdir()
    there = ("snapshots", "fetch", here.name, "--run", "run", "--from", far, "--to", back)

    taken = command(*there)
    back.rmdir()
    flip(far / "run" / here.name / MODEL)
    damaged = command(*there)
    (far / "run" / here.name / MODEL).unlink()
    missing = command(*there)

    assert (1, f"Error: {here.name} is not fetched: {back} is there already\n") == (taken.returncode, taken.stderr)
    assert f"{MODEL} is damaged there" in damaged.stderr
    assert f"{MODEL} is missing there" in missing.stderr
    assert [p.name for p in tmp_path.iterdir() if "back" in p.name] == []


def test_without_a_remote_or_what_it_needs_it_is_one_sentence(tmp_path: Path):
    snapshot_in(tmp_path / "run")

    none = command("snapshots", "push", "--base-dir", tmp_path / "run")
    secret = command("snapshots", "push", "--base-dir", tmp_path / "run", "--to", "s3://me:s3cr3t@bucket")
    lacking = command("snapshots", "push", "--base-dir", tmp_path / "run", "--to", "gs://bucket")

    assert (2, True) == (none.returncode, "No remote is set" in none.stderr)
    assert (2, False) == (secret.returncode, "s3cr3t" in secret.stderr + secret.stdout)
    assert lacking.stderr == 'Error: Remote copies to gs:// need gcsfs: pip install "smart-monitor[remote]" "gcsfs"\n'


def test_doctor_says_what_a_remote_lacks(tmp_path: Path):
    snapshot_in(tmp_path / "run")

    done = command("doctor", "--base-dir", tmp_path / "run", settings={"SMART_MONITOR_REMOTE": "gs://bucket/x"})

    assert done.returncode == 1
    assert "BAD   snapshots can't be copied to gs://bucket/x\n      -> Remote copies to gs:// need gcsfs: pip" in done.stdout
