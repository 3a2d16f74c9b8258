"""A monitor with a remote: what it publishes stands there as well, and nobody sees what must not be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import command, process, status
from tests.daemon.watching import Monitor, Trainer
from tests.waiting import until

SPIKE = 3.0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run that has saved a checkpoint and written nothing yet."""
    Trainer(tmp_path / "run").checkpoint(1)
    return tmp_path / "run"


def spike(base: Path, monitor: Monitor) -> None:
    trainer = Trainer(base)
    monitor.watching()
    trainer.train(30, 0.01)
    trainer.write(SPIKE)
    monitor.says("Snapshot saved")


def test_a_snapshot_stands_at_the_remote_moments_after_it_was_published(base: Path, tmp_path: Path):
    far = tmp_path / "far"
    with Monitor(base, settings={"SMART_MONITOR_REMOTE": str(far)}) as monitor:
        spike(base, monitor)
        line = monitor.says("stands at")
        [name] = monitor.snapshots()
        found = until(lambda: (told := status(base)[1]["vitals"]["remote"]) and told["known"] and not told["waiting"] and told)
        text = command("status", "--base-dir", base).stdout
        code = monitor.stop()

    assert code == 0
    assert f"Snapshot {name} stands at file://{far}/run/{name}" in line
    assert (far / "run" / name / "SHA256SUMS").read_bytes() == (base / "snapshots" / name / "SHA256SUMS").read_bytes()
    assert (found["url"], found["waiting"], found["trouble"]) == (f"file://{far}", [], "")
    assert f"  remote     file://{far}: every snapshot stands there\n" in text


def test_what_was_not_sent_when_the_monitor_ended_is_sent_after_its_next_start(base: Path, tmp_path: Path):
    far = tmp_path / "far"
    far.write_text("in the way")
    with Monitor(base, settings={"SMART_MONITOR_REMOTE": f"{far}/x", "SMART_MONITOR_REMOTE_PATIENCE": "0"}) as monitor:
        spike(base, monitor)
        monitor.says("snapshots stand on this machine only: 1 snapshot not copied to")
        assert "snapshot_failed" in monitor.findings()
        monitor.stop()
        assert monitor.replayed() == monitor.told()
        far.unlink()
        monitor.start()
        [name] = monitor.snapshots()
        monitor.says(f"Snapshot {name} stands at")

    assert (far / "x" / "run" / name / "metadata.json").exists()


def test_once_waits_for_the_copy(base: Path, tmp_path: Path):
    far = tmp_path / "far"
    with Monitor(base) as monitor:
        spike(base, monitor)
        [name] = monitor.snapshots()

    done = process("watch", "--once", "--base-dir", base, settings={"SMART_MONITOR_REMOTE": str(far)})

    assert done.returncode == 0, done.stderr
    assert (far / "run" / name / "SHA256SUMS").exists()


def test_a_dry_run_sends_nothing(base: Path, tmp_path: Path):
    far = tmp_path / "far"
    with Monitor(base) as monitor:
        spike(base, monitor)

    done = process("watch", "--once", "--dry-run", "--base-dir", base, settings={"SMART_MONITOR_REMOTE": str(far)})

    assert done.returncode == 0, done.stderr
    assert not far.exists()


def test_secrets_of_the_environment_stand_nowhere(base: Path):
    pytest.importorskip("s3fs", reason="needs s3fs: scripts/test --all installs it")
    secret, key = "n0t-to-be-seen-anywhere", "AKIAN0TTOBESEEN"
    settings = {
        "SMART_MONITOR_REMOTE": "s3://bucket/x", "AWS_ENDPOINT_URL": f"http://127.0.0.1:9/{secret}", "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": secret, "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    with Monitor(base, settings=settings) as monitor:
        spike(base, monitor)
        monitor.says("Copying to s3://bucket/x fails: ")
        said = command("status", "--base-dir", base, "--json", settings=settings).stdout
        said += command("config", "show", "--base-dir", base, settings=settings).stdout
        monitor.stop()

    written = b"".join(p.read_bytes() for p in base.rglob("*") if p.is_file()) + said.encode() + monitor.said.encode()
    assert b"s3://bucket/x" in written
    assert secret.encode() not in written
    assert key.encode() not in written


def test_what_is_not_installed_is_said_and_the_monitor_goes_on(base: Path):
    with Monitor(base, settings={"SMART_MONITOR_REMOTE": "gs://bucket/x"}) as monitor:
        spike(base, monitor)
        until(lambda: "1 waiting" in command("status", "--base-dir", base).stdout)
        text = command("status", "--base-dir", base).stdout
        assert monitor.stop() == 0

    assert len(monitor.having('need gcsfs: pip install "smart-monitor[remote]" "gcsfs"')) == 1
    assert "remote     gs://bucket/x: 1 waiting" in text
    assert 'trouble    remote copies: Remote copies to gs:// need gcsfs: pip install "smart-monitor[remote]" "gcsfs"' in text
