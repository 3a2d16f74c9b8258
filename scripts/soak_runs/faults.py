"""What goes wrong. A fault is a context manager around one trial: it is entered once trainer and monitor are
made and none of them runs yet, gives the function that does the damage, called when trouble has begun, and
cleans up. It raises CannotRun where the machine does not allow it (mounts and other users need root).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.soak_runs.monitor import Monitor, wait

if TYPE_CHECKING:
    from scripts.soak_runs.trial import Trial

NOBODY = 65534
Damage = Callable[[], None]


class CannotRun(Exception):
    """This machine does not allow it; the text says why."""


@contextlib.contextmanager
def nothing(trial: Trial) -> Iterator[Damage]:
    """A sound machine and a trainer that keeps 5: the checkpoint must be kept every time."""
    trial.trainer.keep = 5
    yield lambda: None


@contextlib.contextmanager
def keeps_one(trial: Trial) -> Iterator[Damage]:
    """A trainer that keeps a single checkpoint."""
    trial.trainer.keep = 1
    yield lambda: None


@contextlib.contextmanager
def killed(trial: Trial) -> Iterator[Damage]:
    """kill -9 of the monitor, up to three times, and its return."""

    def damage() -> None:
        for _ in range(trial.chance.randint(1, 3)):
            time.sleep(trial.chance.uniform(0.0, 0.4))
            trial.monitor.kill()
            time.sleep(trial.chance.choice((0.0, 0.1)))
            trial.monitor.start()

    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def worker_killed(trial: Trial) -> Iterator[Damage]:
    """kill -9 of the copying process in the middle of its work."""

    def damage() -> None:
        for _ in range(trial.chance.randint(1, 3)):
            wait(trial.monitor.workers, 2)
            time.sleep(trial.chance.uniform(0.0, 0.3))
            trial.monitor.kill_worker()

    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def worker_hangs(trial: Trial) -> Iterator[Damage]:
    """The copying process is stopped for a while, and the monitor is killed meanwhile."""

    def damage() -> None:
        wait(trial.monitor.workers, 2)
        pids = trial.monitor.workers()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(trial.chance.uniform(0.1, 0.5))
        if trial.chance.random() < 0.5:
            trial.monitor.kill()
            trial.monitor.start()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def disk_full(trial: Trial) -> Iterator[Damage]:
    """The disk of our output is full when the copy is under way; it is given room again, or never."""
    with mounted(trial.out, "-t", "tmpfs", "-o", f"size={trial.chance.choice((2, 6, 12))}m", "none"):
        ballast = trial.out / "ballast"

        def damage() -> None:
            wait(lambda: list(trial.out.glob("snapshots/.partial-*")) or trial.monitor.workers(), 2)
            with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            if trial.chance.random() < 0.7:
                time.sleep(trial.chance.uniform(0.2, 2.0))
                ballast.unlink()

        yield damage
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def other_disk(trial: Trial) -> Iterator[Damage]:
    """Our output lies on another file system: nothing can be linked there."""
    with mounted(trial.out, "-t", "tmpfs", "-o", "size=64m", "none"):
        yield lambda: None


@contextlib.contextmanager
def unreadable(trial: Trial) -> Iterator[Damage]:
    """The checkpoint's disk gives read errors: a loop device loses most of what is behind it."""
    image, disk = trial.directory / "image", trial.directory / "disk"
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    with mounted(disk, "-o", "loop", str(image)):
        (trial.base / "current_model").rmdir()
        (disk / "model").mkdir()
        (trial.base / "current_model").symlink_to(disk / "model")

        def damage() -> None:
            trial.trainer.saving = False
            with trial.trainer.lock:
                os.sync()
                for path in trial.trainer.stamps:
                    fd = os.open(path, os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)
                # Read-only, or what ext4 still writes makes the image long again, with holes that read as zeros.
                # It is busy as long as the monitor has a file open that was deleted meanwhile.
                remount = ["mount", "-o", "remount,ro", str(disk)]
                if not wait(lambda: subprocess.run(remount, stderr=subprocess.DEVNULL, check=False).returncode == 0, 30):
                    raise CannotRun("the disk could not be made read-only")
                os.truncate(image, trial.chance.randint(9, 20) * 2**20)

        trial.slow_copies()
        yield damage


@contextlib.contextmanager
def overwritten(trial: Trial) -> Iterator[Damage]:
    """The checkpoint is written anew in place, in the same size, while it is copied."""

    def damage() -> None:
        for _ in range(trial.chance.randint(1, 6)):
            wait(lambda: list(trial.out.glob("snapshots/.partial-*/model/*/*")), 1)
            time.sleep(trial.chance.uniform(0.0, 0.1))
            name = trial.trainer.newest()
            if name:
                trial.trainer.overwrite(name)

    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def deleted(trial: Trial) -> Iterator[Damage]:
    """Checkpoints vanish while they are held and copied: rmtree by rotation, by a person, all of them at once."""

    def damage() -> None:
        for _ in range(trial.chance.randint(1, 4)):
            time.sleep(trial.chance.uniform(0.0, 0.15))
            with trial.trainer.lock:
                for place in sorted((trial.base / "current_model").glob("checkpoint-*"))[trial.chance.randint(0, 1) :]:
                    trial.trainer.delete(place)

    trial.trainer.keep = trial.chance.choice((1, 2))
    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def unlinkable(trial: Trial) -> Iterator[Damage]:
    """The monitor runs as another user, to whom the trainer's files are closed."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise CannotRun("not root, or no setpriv")
    trial.directory.chmod(0o755)
    trial.out.mkdir()
    os.chown(trial.out, NOBODY, NOBODY)
    trial.trainer.private = True
    trial.monitor.user = NOBODY
    probe = Monitor(trial.base, trial.out, user=NOBODY)
    probe.start()
    if not wait(lambda: list(trial.out.glob("logs/*.log")), 15):
        probe.kill()
        raise CannotRun("another user can't run this interpreter")
    probe.stop()
    subprocess.run(["rm", "-rf", *map(str, trial.out.iterdir())], check=True)
    yield lambda: None


@contextlib.contextmanager
def clock_jumps(trial: Trial) -> Iterator[Damage]:
    """The clock is set forwards and backwards, by a second or by days."""
    clock = trial.directory / "clock"
    clock.write_text("0")
    trial.monitor.environment |= {"SOAK_CLOCK": str(clock)}
    trial.monitor.jumping()

    def damage() -> None:
        for _ in range(trial.chance.randint(1, 4)):
            clock.write_text(str(trial.chance.choice((-86400 * 3, -3600, -2, 2, 3600, 86400 * 3))))
            time.sleep(trial.chance.uniform(0.0, 0.5))

    yield damage


@contextlib.contextmanager
def two_and_prune(trial: Trial) -> Iterator[Damage]:
    """A second monitor that must give way, and the command line pruning, listing and snapshotting at the same time."""
    harsh = {"SMART_MONITOR_KEEP_DAYS": "0.00001", "SMART_MONITOR_KEEP_LAST": "1", "SMART_MONITOR_KEEP_BESTS": "1"}
    other = Monitor(trial.base, trial.out, settings=harsh)

    def damage() -> None:
        other.start()
        for _ in range(2):
            for arguments in (("snapshot",), ("snapshots", "prune"), ("snapshots", "list", "--json")):
                done = other.run(*arguments)
                if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                    trial.wrong.append(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
                if arguments[-1] == "--json" and not isinstance(json.loads(done.stdout), list | dict):
                    trial.wrong.append(f"snapshots list --json: {done.stdout[:200]}")
        assert other.process is not None
        if other.process.wait(30) != 3:
            trial.wrong.append(f"the second monitor ended with {other.process.returncode}, not 3")

    trial.slow_copies()
    yield damage


@contextlib.contextmanager
def swept_by_hand(trial: Trial) -> Iterator[Damage]:
    """Somebody deletes what is ours, holds, promises and half-made snapshots, in the middle of it."""

    def damage() -> None:
        time.sleep(trial.chance.uniform(0.0, 0.3))
        for name in trial.chance.sample(("holds", "intents", "../snapshots"), 2):
            subprocess.run(["rm", "-rf", str(trial.out / ".smart_monitor" / name)], check=False)
        time.sleep(0.3)
        trial.trainer.trouble = float("nan")  # another trouble, which must find everything in order again

    trial.slow_copies()
    yield damage


FAULTS = (
    nothing, keeps_one, killed, worker_killed, worker_hangs, disk_full, other_disk, unreadable, overwritten, deleted, unlinkable,
    clock_jumps, two_and_prune, swept_by_hand,
)  # fmt: skip


LONG = {unlinkable: 0.1}
"""How much rarer those are that sit out the retries of a permission that never comes."""


@contextlib.contextmanager
def mounted(path: Path, *command: str) -> Iterator[None]:
    """A file system at `path`. Raises CannotRun."""
    path.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        raise CannotRun("mounting needs root")
    done = subprocess.run(["mount", *command, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
