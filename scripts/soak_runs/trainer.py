"""A trainer that rotates its checkpoints and keeps a ledger of every version it ever completed.

The ledger is what the snapshots are judged by: what stands in one must be, file by file, a version that was
complete, and what still lies in the trainer's directory must be as the trainer left it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import threading
import time
from pathlib import Path

Stamp = tuple[int, int, int, int]
"""(inode, bytes, mtime_ns, mode)"""


class Trainer:
    """Steps and saves in a thread of its own until `finish`. `keep` checkpoints stay; the rest is deleted, the oldest first."""

    def __init__(self, base: Path, chance: random.Random, *, keep: int = 3, size: int = 400_000, pace: float = 0.015) -> None:
        self.base, self.chance, self.keep, self.size, self.pace = base, chance, keep, size, pace
        self.step = 0
        self.trouble: float | None = None
        """The loss that is written from now on instead of a sound one."""
        self.saving = True
        self.private = False
        """Are its files for its own user only, as safetensors 0.8 makes them?"""
        self.versions: dict[str, list[dict[str, str]]] = {}
        """Name of a checkpoint -> path -> sha256, for each time it was completed."""
        self.stamps: dict[Path, Stamp] = {}
        """What the trainer left behind, as it left it."""
        self.lock = threading.Lock()
        """Held while files are written: who looks at `stamps` holds it, too."""
        self._status = base / "status" / "training_status.json"
        self._status.parent.mkdir(parents=True)
        (base / "current_model").mkdir()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._train, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """The end of training, said in the status."""
        self._over.set()
        self._thread.join()
        self._write("completed")

    def overwrite(self, name: str) -> bool:
        """Write the weights of a checkpoint anew in place, in the same size: False if it is gone by now."""
        with self.lock:
            files = sorted((self.base / "current_model" / name).glob("*.safetensors"))
            for path in files:
                with path.open("r+b") as file:
                    file.write(self._weights(path.stat().st_size))
            if files:
                self._completed(files[0].parent)
            return bool(files)

    def newest(self) -> str:
        """The name of the checkpoint saved last; empty if there is none."""
        names = sorted(self.stamps, key=lambda p: p.stat().st_mtime if p.exists() else 0.0)
        return names[-1].parent.name if names else ""

    def _train(self) -> None:
        next_save = 0.0
        while not self._over.is_set():
            self.step += 1
            self._write("training")
            if self.saving and time.monotonic() > next_save:
                self._save()
                next_save = time.monotonic() + self.chance.uniform(0.08, 0.4)
            time.sleep(self.pace)

    def _write(self, word: str) -> None:
        loss = 0.7 + 0.01 * self.chance.random() if self.trouble is None else self.trouble
        document = {"status": word, "current_step": self.step, "loss": loss}
        temporary = self._status.with_suffix(".tmp")
        temporary.write_text(json.dumps(document))
        os.replace(temporary, self._status)

    def _save(self) -> None:
        """As the Hugging Face trainer does: in place, the marker last, then the oldest go."""
        with self.lock:
            place = self.base / "current_model" / f"checkpoint-{self.step}"
            place.mkdir()
            for number in range(self.chance.randint(1, 4)):
                content = self._weights(int(self.size * self.chance.uniform(0.3, 1.0)))
                (place / f"part{number}.safetensors").write_bytes(content)
            for path in place.iterdir() if self.private else ():
                path.chmod(0o600)
            (place / "trainer_state.json").write_text(json.dumps({"global_step": self.step, "log_history": []}))
            self._completed(place)
            saved = sorted(place.parent.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))
            for old in saved[: -self.keep]:
                self.delete(old)

    def delete(self, place: Path) -> None:
        """One checkpoint, as rotation deletes it. The caller holds the lock, or is the trainer's end."""
        self.stamps = {p: s for p, s in self.stamps.items() if p.parent != place}
        shutil.rmtree(place, ignore_errors=True)

    def _weights(self, size: int) -> bytes:
        """A safetensors file of about `size` bytes that never was before."""
        length = max(1, size - 120)
        header = json.dumps({"w": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}).ljust(112).encode()
        return struct.pack("<Q", len(header)) + header + self.chance.randbytes(length)

    def _completed(self, place: Path) -> None:
        files = sorted(p for p in place.iterdir() if p.is_file())
        self.versions.setdefault(place.name, []).append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
        self.stamps |= {p: stamp(p) for p in files}


def stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
