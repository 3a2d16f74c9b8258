"""The systemd unit: clean, hard enough, and really run by a real manager."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.manager import Manager, install, skip_unless_possible

INSTANCE = "smart-monitor@data-run.service"


@pytest.fixture
def analysed(tmp_path: Path) -> Path:
    """An instance of the unit beside its drop-ins, as systemd-analyze reads it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine (Debian: apt-get install systemd)")
    install(tmp_path / "units", hardened=True)
    return tmp_path / "units" / "smart-monitor@.service"


def analyse(*arguments: str) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=50)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_to_say_against_the_unit(analysed: Path):
    instance = analysed.with_name(INSTANCE)
    shutil.copy(analysed, instance)

    assert analyse("verify", "--man=no", str(instance)) == ""


def test_the_drop_in_keeps_the_exposure_at_two_and_a_half_or_less(analysed: Path):
    found = re.search(
        r"Overall exposure level for .*: ([\d.]+)", analyse("security", "--offline=yes", "--no-pager", str(analysed))
    )

    assert found
    assert float(found[1]) <= 2.5


def test_the_drop_in_puts_no_mount_between_the_run_and_its_snapshots(analysed: Path):
    text = (analysed.parent / f"{analysed.name}.d" / "hardening.conf").read_text()
    set_here = {line.partition("=")[0] for line in text.splitlines() if line and not line.startswith("#")}
    mounting = {
        "ReadWritePaths",
        "ReadOnlyPaths",
        "BindPaths",
        "TemporaryFileSystem",
        "PrivateTmp",
        "ProtectHome",
        "RootDirectory",
    }

    assert not set_here & mounting
    assert "ProtectSystem=strict" not in [line.strip() for line in text.splitlines()]


@pytest.fixture(params=["plain", "hardened"])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str, Path]]:
    """A manager that has started the unit for a run whose name holds all that needs escaping."""
    skip_unless_possible()
    base = tmp_path / "a run-1 $HOME 50%i"
    (base / "status").mkdir(parents=True)
    write_status(base, 1, 1.0)
    home = tmp_path / "home"
    install(home / ".config" / "systemd" / "user", hardened=request.param == "hardened")
    escaped = subprocess.run(["systemd-escape", "--path", str(base)], capture_output=True, text=True, check=True).stdout.strip()
    unit = f"smart-monitor@{escaped}.service"
    with Manager(home) as manager:
        status, said = manager.run(f"systemctl --user start '{unit}' || systemctl --user status '{unit}'")
        assert status == 0, said
        yield manager, unit, base


def write_status(base: Path, step: int, loss: float) -> None:
    path = base / "status" / "training_status.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"status": "training", "current_step": step, "total_steps": 1000, "loss": loss}))
    os.replace(temporary, path)


@pytest.mark.slow
def test_a_manager_starts_reloads_and_stops_the_daemon(watched: tuple[Manager, str, Path]):
    manager, unit, base = watched

    assert manager.show(unit, "ActiveState") == "active"
    assert manager.show(unit, "StatusText")
    assert list((base / "logs").glob("smart_monitor_*.log"))

    assert manager.run(f"systemctl --user reload '{unit}'")[0] == 0
    manager.wait_for(unit, "ActiveState", "active")
    assert manager.show(unit, "NRestarts") == "0"

    assert manager.run(f"systemctl --user stop '{unit}'")[0] == 0
    assert manager.show(unit, "ActiveState") == "inactive"
    assert manager.show(unit, "Result") == "success"


@pytest.mark.slow
def test_a_hung_daemon_is_killed_by_the_watchdog_and_started_again(watched: tuple[Manager, str, Path]):
    manager, unit, _ = watched
    before = manager.show(unit, "MainPID")

    manager.run(f"kill -STOP {before}")

    manager.wait_for(unit, "NRestarts", "1")
    manager.wait_for(unit, "ActiveState", "active")
    assert manager.show(unit, "MainPID") not in (before, "0")


@pytest.mark.slow
def test_a_second_daemon_on_the_same_run_is_not_tried_again(watched: tuple[Manager, str, Path]):
    manager, unit, base = watched
    other = manager.home / "other"
    other.symlink_to(base)
    escaped = subprocess.run(["systemd-escape", "--path", str(other)], capture_output=True, text=True, check=True).stdout.strip()

    status, _ = manager.run(f"systemctl --user start 'smart-monitor@{escaped}.service'")

    assert status != 0
    assert manager.show(f"smart-monitor@{escaped}.service", "ExecMainStatus") == "3"
    assert manager.show(f"smart-monitor@{escaped}.service", "NRestarts") == "0"
    assert manager.show(unit, "ActiveState") == "active"


@pytest.mark.slow
def test_a_hard_link_can_be_made_from_the_run_into_the_snapshots_inside_the_unit(watched: tuple[Manager, str, Path]):
    manager, unit, base = watched
    (base / "current_model").mkdir()
    (base / "snapshots").mkdir(exist_ok=True)
    (base / "current_model" / "model.safetensors").write_bytes(b"x")
    inside = f"nsenter --mount --target {manager.show(unit, 'MainPID')}"

    status, said = manager.run(f"{inside} ln '{base}/current_model/model.safetensors' '{base}/snapshots/held'")

    assert status == 0, said
    assert os.path.samefile(base / "current_model" / "model.safetensors", base / "snapshots" / "held")


@pytest.mark.slow
def test_a_snapshot_is_published_from_inside_the_unit(watched: tuple[Manager, str, Path]):
    manager, unit, base = watched
    for step in range(2, 6):
        write_status(base, step, 1.0 - step / 100)
        time.sleep(0.7)
    write_status(base, 6, float("nan"))

    deadline = time.monotonic() + 20
    while not list((base / "snapshots").glob("anomaly_*nan*/metadata.json")):
        assert time.monotonic() < deadline, manager.show(unit, "StatusText")
        time.sleep(0.1)
