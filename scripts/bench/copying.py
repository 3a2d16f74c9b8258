#!/usr/bin/env python3
"""What a snapshot costs: our publish against `cp -r`, and against `rsync -a`, each with `sync` and `sha256sum`, in turns.

Each is timed from its start until the bytes are on the disk and their digests known. Ours also reads every file back
before it publishes. It runs at the lowest priority, and so do the others while speed is compared, or a busy machine would
be measured instead. Cold: the source is not in the page cache; warm: it is. Dirty is the most that /proc/meminfo
showed above what stood there before, so a busy machine shows in it. Then a checkpoint of 200 files is held by hard
links. Then a trainer saves in a loop: alone, beside our copies, and beside copies by cp, in turns.
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig import ROOT, parser

sys.path.insert(0, str(ROOT))

from smart_monitor.checkpoints.shelf import Shelf
from smart_monitor.snapshots.pin import pin
from smart_monitor.snapshots.process import Worker

SPEED_BAR = 0.8
DIRTY_BARS = {True: 64.0, False: 200.0}
"""MiB with and without RWF_DONTCACHE."""
SLOWDOWN_BAR = 1.25
HELD_FILES, HOLD_BAR = 200, 10.0
"""Files of a checkpoint that is held, and the milliseconds of processor time that may take."""
MIB = 2**20
MEEK = "renice -n 19 -p $$ >/dev/null; ionice -c 3 -p $$ 2>/dev/null; "
"""Said by a shell of itself: what it starts is as humble as our worker."""
SAVER = """
import os, sys, time
path, size, saves, block = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), os.urandom(1 << 20)
for number in range(saves):
    busy = time.monotonic() + 0.3   # the steps between two saves
    while time.monotonic() < busy:
        sum(range(1000))
    began = time.monotonic()
    with open(path, 'wb') as file:
        for _ in range(size):
            file.write(block)
        if sys.argv[4] == 'fsync':
            file.flush(); os.fsync(file.fileno())
    print(time.monotonic() - began, flush=True)
"""


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=2048, help="MiB of the checkpoint")
    options.add_argument("--rounds", type=int, default=5, help="times that each copies it, cold and warm")
    options.add_argument("--pairs", type=int, default=10, help="times that the trainer saves alone and beside each")
    options.add_argument("--save", type=int, default=256, help="MiB that the trainer saves at a time")
    options.add_argument("--fsync", action="store_true", help="the trainer's saves end with fsync")
    options.add_argument("--directory", type=Path, help="where to work: a real disk, with room for three times the size")
    given = options.parse_args()
    if given.quick:
        given.size, given.rounds, given.pairs, given.save = 256, 1, 2, 64
    with tempfile.TemporaryDirectory(prefix="bench-copy-", dir=given.directory or "/var/tmp") as directory:
        base = Path(directory)
        source = make(base / "checkpoint-500", given.size)
        fine = speed(base, source, given.rounds)
        fine &= holding(base)
        return 0 if slowdown(base, source, given) and fine else 1


def make(path: Path, size: int) -> Path:
    """A checkpoint of three large files, incompressible, and eight small ones."""
    path.mkdir()
    block = os.urandom(4 * MIB)
    for name, share in {"model-1.safetensors": 3, "model-2.safetensors": 3, "optimizer.pt": 2}.items():
        with open(path / name, "wb") as file:
            file.writelines(number.to_bytes(8, "little") + block[8:] for number in range(size * share // 8 // 4))
    for number in range(8):
        (path / f"config-{number}.json").write_bytes(os.urandom(2000))
    subprocess.run(["sync", "-f", path], check=True)
    return path


def job(out: Path, source: Path) -> dict[str, Any]:
    """What the daemon would ask of the worker, without a rate or a reserve."""
    files = []
    for path in sorted(source.iterdir()):
        info = path.stat()
        files.append([path.name, f"model/{source.name}/{path.name}", info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns])
    group = {"root": str(source), "below": "model", "required": True, "exact": True, "held": True, "files": files, "ignored": []}
    return {
        "out": str(out), "folder": str(out / ".smart_monitor"), "name": "anomaly_20260101_000000_bench", "rate": 0,
        "gives_way": True, "reserve": None, "status": None, "missing": [], "groups": [group], "theirs": [],
        "document": {"id": "bench"},
    }  # fmt: skip


def ours(source: Path, target: Path) -> None:
    result = Worker(job(target, source)).wait(3600)
    if result is None or result["result"] != "published":
        raise SystemExit(f"our copy failed: {result}")


def by_cp(source: Path, target: Path) -> None:
    target.mkdir()
    shell(MEEK + 'cp -r "$0" "$1" && sync -f "$1" && find "$1" -type f -exec sha256sum {} + >"$1/SUMS"', source, target)


def only_cp(source: Path, target: Path) -> None:
    shell('cp -r "$0" "$1"', source, target)


def by_rsync(source: Path, target: Path) -> None:
    target.mkdir()
    shell(MEEK + 'rsync -a "$0" "$1" && sync -f "$1" && find "$1" -type f -exec sha256sum {} + >"$1/SUMS"', source, target)


def shell(line: str, source: Path, target: Path) -> None:
    subprocess.run(["sh", "-c", line, str(source), str(target)], check=True)


def cool(path: Path, warm: bool) -> None:
    """The files into the page cache, or out of it."""
    for file in path.iterdir():
        fd = os.open(file, os.O_RDONLY)
        while warm and os.read(fd, 4 * MIB):
            pass
        if not warm:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


@contextmanager
def dirty() -> Iterator[list[float]]:
    """The most MiB of dirty pages inside the block, above what there were before it."""
    peak, done = [0.0], threading.Event()
    before = dirty_now()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], dirty_now() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def dirty_now() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Dirty:")) / 1024


def speed(base: Path, source: Path, rounds: int) -> bool:
    """Print times, ratios and dirty pages; whether the bars hold."""
    ways: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "cp": by_cp}
    if shutil.which("rsync"):
        ways["rsync"] = by_rsync
    else:
        print("rsync is not installed: left out")
    size = sum(p.stat().st_size for p in source.iterdir()) / MIB
    fine = True
    for warm in (False, True):
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        peaks: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            for name in order:
                cool(source, warm)
                subprocess.run(["sync", "-f", base], check=True)
                with dirty() as peak:
                    began = time.monotonic()
                    ways[name](source, base / "target")
                    seconds[name].append(time.monotonic() - began)
                peaks[name].append(peak[0])
                shutil.rmtree(base / "target")
        print(f"{size:.0f} MiB, {'warm' if warm else 'cold'}, {rounds} rounds: median (each), dirty MiB (median of peaks)")
        for name in ways:
            each = " ".join(f"{s:.2f}" for s in seconds[name])
            middle = statistics.median(seconds[name])
            print(
                f"  {name:<6} {middle:7.2f} s  {size / middle:6.0f} MiB/s  ({each})  dirty {statistics.median(peaks[name]):6.0f}"
            )
        for name in [n for n in ways if n != "ours"]:
            ratio = statistics.median(other / mine for other, mine in zip(seconds[name], seconds["ours"], strict=True))
            fine &= judged(f"speed against {name}", ratio, SPEED_BAR, ratio >= SPEED_BAR or name != "cp")
        most, bar = statistics.median(peaks["ours"]), DIRTY_BARS[can_drop(base)]
        fine &= judged("dirty MiB", most, bar, most <= bar)
    return fine


def can_drop(base: Path) -> bool:
    """Does this kernel and file system know RWF_DONTCACHE?"""
    with open(base / "probe", "wb") as file:
        try:
            os.pwritev(file.fileno(), [b"x"], 0, 0x80)
        except OSError:
            return False
    return True


def holding(base: Path, rounds: int = 9) -> bool:
    """Print what holding a checkpoint of many files takes by hard links; whether the bar holds."""
    place = base / "current_model" / "checkpoint-1000"
    place.mkdir(parents=True)
    for number in range(HELD_FILES - 1):
        (place / f"rng_state_{number}.pth").write_bytes(os.urandom(2000))
    (place / "trainer_state.json").write_text('{"global_step": 1000}')
    shelf = Shelf(base)
    shelf.scan(time.time() + 2)
    found = shelf.newest(None, 0.0)
    if found is None:
        raise SystemExit("; ".join(shelf.incomplete(0.0)))
    taken = []
    for number in range(rounds):
        into = base / f"hold-{number}"
        into.mkdir()
        began = time.process_time()
        pin(found, str(into), clone=False)
        taken.append(1000 * (time.process_time() - began))
    print(f"A checkpoint of {len(found.files)} files held by hard links, {rounds} rounds")
    middle = statistics.median(taken)
    return judged("ms of processor time", middle, HOLD_BAR, middle <= HOLD_BAR)


def slowdown(base: Path, source: Path, given: Any) -> bool:
    """Print how much longer a trainer's saves take beside each; whether the bars hold."""
    ratios: dict[str, list[float]] = {"ours": [], "cp": []}
    beside: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "cp": only_cp}
    for number in range(given.pairs):
        alone = saves(base, given, None)
        for name in ("ours", "cp") if number % 2 else ("cp", "ours"):
            ratios[name].append(saves(base, given, functools.partial(beside[name], source, base / "target")) / alone)
    words = "with fsync" if given.fsync else "without fsync"
    print(f"A trainer that saves {given.save} MiB {words}, its mean save beside copies over alone, {given.pairs} pairs")
    middle = {name: statistics.median(found) for name, found in ratios.items()}
    for name, found in ratios.items():
        print(f"  beside {name:<5} {middle[name]:5.2f}  ({' '.join(f'{r:.2f}' for r in found)})")
    fine = judged("slowed by ours", middle["ours"], SLOWDOWN_BAR, middle["ours"] <= SLOWDOWN_BAR)
    return judged("and less than by cp", middle["ours"], middle["cp"], middle["ours"] <= middle["cp"]) and fine


def saves(base: Path, given: Any, copy: Callable[[], None] | None) -> float:
    """The mean seconds of a trainer's save, while `copy` goes on again and again."""
    command = [sys.executable, "-c", SAVER, str(base / "save.bin"), str(given.save), "4", "fsync" if given.fsync else ""]
    subprocess.run(["sync", "-f", base], check=True)
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while copy is not None and trainer.poll() is None:
        copy()
        shutil.rmtree(base / "target")
    text, _ = trainer.communicate()
    return statistics.fmean(float(line) for line in text.split())


def judged(figure: str, value: float, bar: float, holds: bool) -> bool:
    """Print a figure beside its bar; whether it holds."""
    print(f"  {figure:<24} {value:8.2f}  bar {bar:g}  {'holds' if holds else 'FAILS'}", flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(main())
