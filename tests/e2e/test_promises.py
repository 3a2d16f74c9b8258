"""The promises to the trainer: its files are read and nothing else; what we write lies where it should."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.command_line import command
from tests.daemon.watching import Monitor, Trainer
from tests.waiting import until

OURS = ("snapshots", "logs", ".smart_monitor")


def fingerprint(base: Path) -> dict[str, tuple[int, ...]]:
    """All that a write, a chmod, a utime or a rename would change, of all that is the trainer's; a link out changes none."""
    found = {}
    for path in sorted([base, *base.rglob("*")]):
        name = path.relative_to(base).as_posix()
        if name.split("/")[0] in OURS:
            continue
        info = path.lstat()
        times = (info.st_mtime_ns,) if name != "." else ()  # our directories lie in it
        found[name] = (info.st_ino, info.st_mode, info.st_size, info.st_uid, *times)
    return found


def busy(trainer: Trainer, monitor: Monitor, steps: int) -> None:
    """What a long session brings, in a short one: spikes, NaN, states, evaluations, checkpoints."""
    for _ in range(steps):
        step = trainer.step + 1
        loss = float("nan") if step % 31 == 0 else 2.5 if step % 17 == 0 else 0.7 + 0.01 * (step % 5)
        trainer.write(loss, in_place=step % 7 == 0, accuracy=70 + step % 3)
        if step % 20 == 0:
            trainer.checkpoint(step, keep=3, size=100_000)
        if step % 31 == 0 or step % 17 == 0:
            monitor.sees(step)  # what it is to keep must not be overwritten while it waits for a processor
        time.sleep(0.02)


@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_after_a_busy_session_the_trainers_tree_is_as_it_left_it(tmp_path: Path, elsewhere: bool) -> None:
    base = tmp_path / "run"
    out = tmp_path / "out" if elsewhere else None
    trainer = Trainer(base)
    for name, mode in (("readonly.safetensors", 0o444), ("config.json", 0o640)):
        (base / "current_model" / name).write_bytes(b"{}")
        (base / "current_model" / name).chmod(mode)
    trainer.train(1)
    settings = {"SMART_MONITOR_MIN_STEPS_BETWEEN_SAVES": "5"}
    with Monitor(base, out=out, settings=settings) as monitor:
        monitor.sees(1)
        busy(trainer, monitor, 80)
        monitor.sees(trainer.step)
        before = fingerprint(base)
        until(lambda: not list((monitor.out / ".smart_monitor" / "intents").iterdir()), "all promises kept")
        trainer_quiet_for = 1.5
        time.sleep(trainer_quiet_for)
        assert len(monitor.snapshots()) >= 3
        assert before == fingerprint(base)
        assert 0 == monitor.stop()
    assert before == fingerprint(base)
    assert 0 == command("snapshots", "verify", "--base-dir", base, *(["--out", out] if out else [])).returncode
    if elsewhere:
        assert ["current_model", "status"] == sorted(os.listdir(base))
    for snapshot in (monitor.out / "snapshots").iterdir():
        for path in [snapshot, *snapshot.rglob("*")]:
            mode, shared = stat.S_IMODE(path.stat().st_mode), not path.is_dir() and path.stat().st_nlink > 1
            assert (0o700 if path.is_dir() else 0o444 if shared else 0o600) == mode
            assert path.stat().st_ino not in {info[0] for info in before.values()}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_system_call_ever_writes_to_a_file_of_the_trainer(tmp_path: Path) -> None:
    base, out, trace = tmp_path / "run", tmp_path / "out", tmp_path / "trace"
    trainer = Trainer(base)
    trainer.checkpoint(1)
    trainer.train(1)
    calls = "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,"
    calls += "chmod,fchmodat,chown,fchownat,utimensat,truncate,setxattr,flock,fcntl,mknod,mknodat"
    strace = ("strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", str(trace))
    try:
        subprocess.run([*strace, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be traced here")
    with Monitor(base, out=out, prefix=strace) as monitor:
        monitor.sees(1)
        trainer.write(float("nan"))
        until(lambda: monitor.having("Snapshot saved"), "a snapshot")
        command("stop", "--base-dir", base, "--out", out)
        assert 0 == monitor.wait()
    touched = [line for line in trace.read_text().splitlines() if f'"{base}' in line or f"<{base}" in line]
    assert any("training_status.json" in line for line in touched)
    assert any("model.safetensors" in line for line in touched)
    for line in touched:
        call = re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line)
        assert call is not None
        if call[1] == "linkat":  # a hold: out of the trainer's directory, never into it
            assert [str(base), str(out / ".smart_monitor" / "holds")] == [
                re.sub(r"(/run/|/holds/).*", lambda m: m[1].rstrip("/"), f) for f in re.findall(r"\d+<([^>]*)>", line)
            ], line
            continue
        assert call[1] in ("openat", "open", "fcntl"), line
        assert not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|F_SETLK|F_OFD_SETLK|F_SETLEASE|F_NOTIFY", line), line


def test_a_run_is_watched_judged_kept_and_explained_from_end_to_end(tmp_path: Path) -> None:
    """The story of the guide: a loss of 0.72 leaps to 1.15 at step 15200; the checkpoint is kept before it is rotated away."""
    trainer = Trainer(tmp_path)
    with Monitor(tmp_path) as monitor:
        for step in range(13000, 15200, 100):
            trainer.write(round(0.72 + 0.004 * (step // 100 % 3), 4), step=step, total_steps=100_000, learning_rate=2e-4)
            monitor.sees(step)
            if step % 1000 == 0:
                trainer.checkpoint(step)
        until(lambda: list((tmp_path / ".smart_monitor" / "holds").glob("hold-checkpoint-15000-*/hold.json")), "the hold")
        trainer.write(1.15, step=15200, total_steps=100_000, learning_rate=2e-4)
        monitor.says("Snapshot saved")
        for step in (16000, 17000):
            trainer.checkpoint(step)
        assert not (tmp_path / "current_model" / "checkpoint-15000").exists()
        assert 0 == monitor.stop()
    [name] = [n for n in monitor.snapshots() if "loss_spike" in n]
    assert re.fullmatch(r"anomaly_\d{8}_\d{6}_loss_spike_5\d\.\dpct", name)
    assert (tmp_path / "snapshots" / name / "model" / "checkpoint-15000" / "model.safetensors").is_file()
    found = subprocess.run(
        ["grep", "-h", "Step 15200", *(tmp_path / "logs").glob("*.log")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert any("Monitoring: Step 15200 loss=1.15" in line for line in found)
    assert any("[ALERT] Step 15200: loss_spike_5" in line for line in found)
    shown = command("snapshots", "show", name, "--base-dir", tmp_path).stdout
    assert "step            15200" in shown
    assert monitor.told() == monitor.replayed()
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "snapshots" / name, check=False)
    assert 0 == sums.returncode
