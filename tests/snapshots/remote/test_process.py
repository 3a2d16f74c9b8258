"""The sending process: killed, without a server, refused: what stands at the remote is whole, what waits is told."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smart_monitor.config import Settings
from smart_monitor.snapshots.prune import prune
from smart_monitor.snapshots.remote import process, records
from smart_monitor.snapshots.remote.process import RemoteCopies, Sender
from tests.snapshots.made import DAY, NOW, made
from tests.snapshots.remote import rig
from tests.snapshots.remote.rig import content, job, require_whole_or_unseen, send, snapshot_in
from tests.waiting import until

pytestmark = pytest.mark.timeout(500)


def copies(out: Path, url: str, **settings: object) -> RemoteCopies:
    return RemoteCopies(out, "llama 7b", [], Settings(remote=url, **settings))  # type: ignore[arg-type]


def drive(copy: RemoteCopies, done: Callable[[], object]) -> list[str]:
    """Pump until `done`; what was said."""
    said: list[str] = []

    def turn() -> object:
        said.extend(f"{t.level} {t.text}" for t in copy.pump(time.monotonic()))
        return done()

    until(turn)
    return said


def killed_at_random(out: Path, url: str, here: Path, rng: random.Random) -> bool:
    """One process, killed at any moment of its work; was the manifest seen after that?"""
    process = Sender(job(out, url, rate=2**20))  # slow enough for a kill to hit it
    try:
        until(lambda: process.poll() or any("sending" in m for m in process.heard))
        time.sleep(rng.uniform(0.0, 0.7))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        until(process.poll)
    finally:
        process.abandon()
    return require_whole_or_unseen(url, f"llama 7b/{here.name}", here)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("kind", "trials"),
    [("file", 8), pytest.param("file", 60, marks=pytest.mark.slow), pytest.param("s3", 30, marks=pytest.mark.slow)],
)
def test_a_sender_killed_at_any_moment_never_leaves_a_manifest_over_what_is_not_whole(
    tmp_path: Path, kind: str, trials: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    server = None
    if kind == "s3":
        server = request.getfixturevalue("server")
        rig.aim(monkeypatch, server)
    rng = random.Random(20251112)
    here = snapshot_in(tmp_path, size=400_000)
    seen, url = 0, ""
    for trial in range(trials):
        if trial % 3 == 0:  # a fresh remote now and then, else what was broken off is gone on with
            url = f"file://{tmp_path}/far/{trial}" if server is None else rig.new_bucket(server)
        seen += killed_at_random(tmp_path, url, here, rng)

    assert send(tmp_path, url)[0] == {"result": "done"}
    assert require_whole_or_unseen(url, f"llama 7b/{here.name}", here)
    assert seen < trials  # else no kill has hit


def test_every_snapshot_that_waits_is_sent_and_told_once(tmp_path: Path, url: str):
    first, second = snapshot_in(tmp_path), snapshot_in(tmp_path, "two", "nan")
    copy = copies(tmp_path, url)

    said = drive(copy, lambda: not copy.busy)
    third = snapshot_in(tmp_path, "three", "best_model_loss_0.6321")
    copy.wake(third.name)
    said += drive(copy, lambda: not copy.busy)

    assert said[0] == f"INFO Every snapshot is copied to {url} as well"
    assert [line.split()[:3] for line in said[1:]] == [["INFO", "Snapshot", s.name] for s in (first, second, third)]
    assert all("proven by" in line for line in said[1:])
    assert all(require_whole_or_unseen(url, f"llama 7b/{s.name}", s) for s in (first, second, third))
    assert copy.vitals(0.0) == {
        "url": url, "waiting": [], "known": True, "refused": {}, "sending": "", "moved": 0, "of": copy.vitals(0.0)["of"],
        "trouble": "", "failures": 0, "next_in": 0.0,
    }  # fmt: skip


def test_a_remote_that_is_down_is_told_once_alarms_when_it_lasts_and_is_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "PAUSES", (0.05,))
    (tmp_path / "mount").write_text("not mounted yet")  # a file where the directory will be
    here, url = snapshot_in(tmp_path), f"file://{tmp_path}/mount/far"
    copy = copies(tmp_path, url, remote_patience=0.2)

    said = drive(copy, lambda: copy.vitals(0.0)["failures"] >= 3)
    alarm = until(lambda: copy.alarm(time.monotonic()))
    assert copy.alarm(time.monotonic()) == ""
    (tmp_path / "mount").unlink()
    said += drive(copy, lambda: not copy.vitals(0.0)["waiting"] and not copy.busy)

    assert [line.split()[0] for line in said] == ["INFO", "WARNING", "INFO", "INFO"]
    assert said[1].startswith(f"WARNING Copying to {url} fails: Not a directory")
    assert said[1].endswith("(1 snapshot waiting; tried again with growing pauses)")
    assert alarm.startswith(f"1 snapshot not copied to {url}: Not a directory")
    assert said[2] == f"INFO Copying to {url} works again"
    assert require_whole_or_unseen(url, f"llama 7b/{here.name}", here)


@pytest.mark.skipif(bool(rig.MISSING), reason=rig.SKIPPED)
def test_a_server_that_dies_and_comes_back_empty_is_caught_up_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "PAUSES", (0.05,))
    here = snapshot_in(tmp_path, size=3_000_000)
    with rig.Server() as server:
        rig.aim(monkeypatch, server)
        url, port = rig.new_bucket(server), server.port
        hasty = {"config_kwargs": {"retries": {"max_attempts": 1}}}
        copy = copies(tmp_path, url, remote_rate_mb=2.0, remote_options=hasty)
        drive(copy, lambda: copy.vitals(0.0)["sending"])
    try:
        said = drive(copy, lambda: copy.vitals(0.0)["failures"])
        with rig.Server(port) as server:
            server.bucket(url.split("/")[2])
            copy.configure(Settings(remote=url))
            said += drive(copy, lambda: copy.vitals(0.0)["known"] and not copy.vitals(0.0)["waiting"] and not copy.busy)

            assert require_whole_or_unseen(url, f"llama 7b/{here.name}", here)
    finally:
        copy.stop()
    [warning] = [line for line in said if line.startswith("WARNING")]
    assert f"Copying to {url} fails: " in warning
    assert "\n" not in warning


@pytest.mark.skipif(bool(rig.MISSING), reason=rig.SKIPPED)
def test_a_bucket_that_is_not_there_is_one_sentence(tmp_path: Path, server: rig.Server, monkeypatch: pytest.MonkeyPatch):
    rig.aim(monkeypatch, server)
    snapshot_in(tmp_path)

    assert send(tmp_path, "s3://no-such-bucket/x")[0] == {"result": "failed", "why": "The specified bucket does not exist"}


@pytest.mark.skipif(bool(rig.MISSING), reason=rig.SKIPPED)
def test_denied_is_one_sentence_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snapshot_in(tmp_path)
    with rig.Server(environment={"INITIAL_NO_AUTH_ACTION_COUNT": "1"}) as server:
        rig.aim(monkeypatch, server)
        url = rig.new_bucket(server)  # the one action that asks for no right

        result, _ = send(tmp_path, url)

    assert result["result"] == "failed"
    assert "Forbidden" in result["why"] or "denied" in result["why"].lower()
    assert rig.KEY not in result["why"]
    assert rig.SECRET not in result["why"]
    assert "\n" not in result["why"]


def test_only_one_process_at_a_time_sends(tmp_path: Path):
    here, url = snapshot_in(tmp_path, size=3_000_000), f"file://{tmp_path}/far"
    first = Sender(job(tmp_path, url, rate=2**20))
    try:
        until(lambda: any("sending" in m for m in first.heard) or first.poll())

        assert send(tmp_path, url)[0] == {"result": "busy", "why": "another process sends the snapshots of this run"}
    finally:
        first.abandon()
    assert send(tmp_path, url)[0] == {"result": "done"}
    assert require_whole_or_unseen(url, f"llama 7b/{here.name}", here)


def test_what_needs_something_that_is_not_installed_is_one_sentence_with_the_command(tmp_path: Path):
    copy = copies(tmp_path, "gs://bucket/x")

    [(level, text)] = copy.pump(time.monotonic())

    assert level == "WARNING"
    assert text.startswith('Remote copies to gs:// need gcsfs: pip install "smart-monitor[remote]" "gcsfs" (until then')
    assert not copy.busy


def test_pruning_waits_for_a_copy_and_not_for_ever(tmp_path: Path):
    here, url = snapshot_in(tmp_path), f"file://{tmp_path}/far"
    assert records.pending(tmp_path) == set()  # no remote is set
    copies(tmp_path, url, remote_days=2.0)

    assert records.pending(tmp_path) == {here.name}  # not tried yet
    (tmp_path / "far").write_text("in the way")
    assert send(tmp_path, url)[0]["result"] == "failed"
    assert records.pending(tmp_path, time.time() + 1.9 * 86400) == {here.name}
    assert records.pending(tmp_path, time.time() + 2.1 * 86400) == set()
    (tmp_path / "far").unlink()
    assert send(tmp_path, url)[0] == {"result": "done"}
    assert records.pending(tmp_path) == set()
    copies(tmp_path, f"file://{tmp_path}/elsewhere")
    assert records.pending(tmp_path) == {here.name}  # there it does not stand yet
    copies(tmp_path, "")
    assert records.pending(tmp_path) == set()


def test_what_is_not_copied_yet_is_not_pruned_and_afterwards_it_is_and_its_record_goes(tmp_path: Path):
    old = [made(tmp_path, at=NOW - days * DAY, step=int(days)) for days in (60, 50, 40)]
    rules, url = Settings(keep_last=1), f"file://{tmp_path}/far"
    copies(tmp_path, url)

    waits = prune(tmp_path, rules, NOW)
    send(tmp_path, url)
    goes = prune(tmp_path, rules, NOW)
    last = made(tmp_path, at=NOW)
    send(tmp_path, url)

    assert [(v.keep, v.rule) for v in waits.plan.verdicts[:2]] == [(True, "not yet copied to the remote")] * 2
    assert [v.name for v in goes.dropped] == [p.name for p in old[:2]]
    assert sorted(p.stem for p in records.folder_of(tmp_path).rglob("anomaly_*.json")) == [old[2].name, last.name]
    assert sorted(p.name for p in (tmp_path / "far" / "llama 7b").iterdir()) == sorted(p.name for p in [*old, last])


def test_records_that_can_not_be_read_cost_a_look_and_nothing_else(tmp_path: Path):
    here, url = snapshot_in(tmp_path), f"file://{tmp_path}/far"
    send(tmp_path, url)
    for path in records.folder_of(tmp_path).rglob("anomaly_*.json"):
        path.write_text("[" * 100_000)

    assert records.waiting(tmp_path, url) == ([here.name], {})
    result, told = send(tmp_path, url)

    assert (result, rig.moved(told)) == ({"result": "done"}, 0)
    assert content(url, f"llama 7b/{here.name}/SHA256SUMS") is not None
