"""What a step that went wrong was made of, kept to be run again: its batch, the state of the random numbers, its record.

    OUT/anomalies/anomalies_rank_R.jsonl                              one strict JSON object an anomaly
    OUT/anomalies/data/step_S_rank_R_YYYYMMDD_HHMMSS/<tensor>.safetensors, rng.safetensors, record.json

`Capture.save` copies the batch to the host and returns; a thread of its own writes it. Bounded in bytes and count,
also over restarts: beyond that an anomaly has its line and no data. A directory under its final name is whole.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from smart_monitor.model import SCHEMA, to_json
from smart_monitor.probe.writer import RecordWriter

WAITING = 4
"""Captures that wait for the disk; one more is told without its data."""
MAX_DEPTH = 4
RNG = "rng"
"""Name of the file that holds the state of the random numbers; a tensor of that name goes by another."""
_SAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_TOKEN = secrets.token_hex(4)
"""In the names of what this process is writing, so that it is not taken for what a kill left."""
_given: set[str] = set()
"""Places that this process has given away: the probe and a detector may keep the same step of one run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be kept, for each rank."""

    count: int = 20
    """Directories of data."""
    bytes_each: int = 256 << 20
    bytes_total: int = 1 << 30
    bytes_free: int = 2 << 30
    """What stays free on the disk at least."""
    lines: int = 10_000
    """Lines of anomalies_rank_R.jsonl written by one process."""


def bytes_of(batch: Any) -> int:
    """Of the tensors in a batch that `Capture` would find."""
    return sum(leaf.numel() * leaf.element_size() for _, leaf in _leaves(batch, "", 0) if isinstance(leaf, Tensor))


def rng_state() -> dict[str, Tensor]:
    """The state of torch's random numbers on the CPU and, where CUDA is in use, on the current device. Waits for nothing."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


class Capture:
    """Keeps anomalies of one rank under `directory`/anomalies. `save` never raises on what a disk or a batch can be."""

    def __init__(self, directory: str | os.PathLike[str], rank: int = 0, limits: Limits | None = None) -> None:
        self.directory, self.rank, self.limits = Path(directory), rank, limits or Limits()
        self.lines = RecordWriter(self.directory / "anomalies" / f"anomalies_rank_{rank}.jsonl")
        self.told = 0
        self._full = ""
        """Why nothing more is kept; known to the thread."""
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Capture, (self.directory, self.rank, self.limits)  # a copy has threads of its own

    def save(
        self,
        step: int,
        *,
        loss: float | None = None,
        grad_norm: float | None = None,
        batch: Any = None,
        record: Mapping[str, Any] | None = None,
        rng: Mapping[str, Tensor] | None = None,
        threshold_info: Mapping[str, Any] | None = None,
        model_checkpoint: str | None = None,
        reason: str = "",
    ) -> str:
        """Keep one anomaly; the place of its data relative to the output directory, decided now and written soon.

        `batch`: a tensor, or mappings, sequences and dataclasses of them; what is no tensor, number or flag is left
        out. `rng`: the state to run the step again from (`rng_state()` taken before its forward pass); now, if not given.
        """
        if self.told >= self.limits.lines:
            return ""
        self.told += 1
        now = datetime.now()
        name = self._name(step, now)
        place = f"anomalies/data/{name}"
        line: dict[str, Any] = {
            "schema": SCHEMA, "step": step, "rank": self.rank, "timestamp": now.isoformat(timespec="seconds"), "reason": reason,
            "loss": loss, "grad_norm": grad_norm, "batch_info": {}, "model_checkpoint": model_checkpoint,
            "threshold_info": dict(threshold_info or {}), "data_dir": place, "missing": [],
        }  # fmt: skip
        job = _Job(name, line, {}, dict(rng if rng is not None else rng_state()), dict(record or {}))
        try:
            self._take(batch, job)
        except Exception as error:  # a batch is somebody else's object
            line["missing"].append(f"the batch could not be read: {type(error).__name__}")
        self._enqueue(job)
        return place if line["data_dir"] else ""

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything is on the disk, for `timeout` seconds at most; is it?"""
        done = threading.Event()
        if self._thread is not None:
            try:
                self._jobs.put(_Job("", {}, {}, {}, {}, done), timeout=timeout)
            except queue.Full:
                return False
            if not done.wait(timeout):
                return False
        return self.lines.flush(timeout)

    def close(self) -> None:
        """Flush, and end both threads."""
        if self._thread is not None:
            self.flush()
            try:
                self._jobs.put_nowait(None)
                self._thread.join(1.0)
            except queue.Full:
                pass  # a disk that hangs keeps its thread, which ends with the process
            self._thread = None
            atexit.unregister(self.close)
        self.lines.close()

    def _name(self, step: int, now: datetime) -> str:
        data = os.path.abspath(self.directory / "anomalies" / "data")
        name = _free(f"step_{step}_rank_{self.rank}_{now:%Y%m%d_%H%M%S}", lambda name: os.path.join(data, name) in _given)
        _given.add(os.path.join(data, name))
        return name

    def _take(self, batch: Any, job: _Job) -> None:
        """Copy the tensors of a batch to the host, as many as may be kept."""
        size = 0
        info = job.line["batch_info"]
        names = {RNG}
        for name, leaf in _leaves(batch, "", 0):
            name = _free(_SAFE.sub("_", name)[:100] or "batch", names.__contains__)
            names.add(name)
            if isinstance(leaf, Tensor):
                info[f"{name}_shape"], info[f"{name}_dtype"] = list(leaf.shape), str(leaf.dtype).removeprefix("torch.")
                size += leaf.numel() * leaf.element_size()
                if size > self.limits.bytes_each:
                    job.line["missing"].append(f"{name}: the batch is larger than {self.limits.bytes_each} bytes")
                elif leaf.layout != torch.strided:
                    job.line["missing"].append(f"{name}: of layout {leaf.layout}")
                else:
                    job.tensors[name] = leaf.detach().to("cpu", copy=True).contiguous()
                    info[f"{name}_path"] = f"anomalies/data/{job.name}/{name}.safetensors"
            elif isinstance(leaf, bool | int | float):
                info[name] = leaf

    def _enqueue(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="smart_monitor capture", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._without(job, "the disk is too slow")
            self.lines.write(_strict(job.line))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.done is not None:
                job.done.set()
                continue
            try:
                self._write(job)
            except Exception as error:  # a full disk, a tensor that cannot be saved: the line says so
                self._without(job, str(error) or type(error).__name__)
            self.lines.write(_strict(job.line))

    def _write(self, job: _Job) -> None:
        data = self.directory / "anomalies" / "data"
        data.mkdir(parents=True, exist_ok=True)
        size = sum(t.numel() * t.element_size() for t in (*job.tensors.values(), *job.rng.values()))
        if not self._full:
            count, total = self._measured(data)
            if count >= self.limits.count or total + size > self.limits.bytes_total:
                self._full = f"{count} anomalies of {total} bytes are kept already"
        if self._full:
            return self._without(job, self._full)
        disk = os.statvfs(data)
        if disk.f_bavail * disk.f_frsize < size + self.limits.bytes_free:
            return self._without(job, "the disk is nearly full")
        partial, final = data / f".partial-{_TOKEN}-{job.name}", data / job.name
        try:
            partial.mkdir()
            for name, tensor in job.tensors.items():
                save_file({name: tensor}, partial / f"{name}.safetensors")
            if job.rng:
                save_file({name: t.clone() for name, t in job.rng.items()}, partial / f"{RNG}.safetensors")
                job.line["rng_path"] = f"anomalies/data/{job.name}/{RNG}.safetensors"
            (partial / "record.json").write_text(to_json(job.record) + "\n", encoding="utf-8")
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return None

    def _measured(self, data: Path) -> tuple[int, int]:
        """(directories, bytes) that this rank has here already; what a kill left half-written goes."""
        count = total = 0
        for found in data.iterdir():
            if f"_rank_{self.rank}_" not in found.name:
                continue
            if found.name.startswith(".partial-"):
                if _TOKEN not in found.name:
                    shutil.rmtree(found, ignore_errors=True)
                continue
            count += 1
            total += sum(f.stat().st_size for f in found.iterdir() if f.is_file())
        return count, total

    def _without(self, job: _Job, why: str) -> None:
        line = job.line
        line["missing"].append(f"no data: {why}")
        line["data_dir"] = None
        line.pop("rng_path", None)
        line["batch_info"] = {k: v for k, v in line["batch_info"].items() if not k.endswith("_path")}


@dataclass(slots=True)
class _Job:
    name: str
    line: dict[str, Any]
    tensors: dict[str, Tensor]
    rng: dict[str, Tensor]
    record: dict[str, Any]
    done: threading.Event | None = None


def _free(name: str, taken: Callable[[str], bool]) -> str:
    """The name, with a number behind it if it is taken."""
    found, number = name, 2
    while taken(found):
        found, number = f"{name}_{number}", number + 1
    return found


def _strict(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """The line with what JSON cannot hold spelled out."""
    found: Mapping[str, Any] = json.loads(to_json(line, default=str))
    return found


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(dotted name, leaf) of whatever a batch is made of."""
    if isinstance(value, Tensor | bool | int | float):
        yield name, value
        return
    if depth >= MAX_DEPTH:
        return
    inner: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping) or hasattr(value, "items"):
        inner = iter(value.items())
    elif is_dataclass(value) and not isinstance(value, type):
        inner = ((each.name, getattr(value, each.name)) for each in fields(value))  # asdict would copy its tensors
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        inner = iter(enumerate(value))
    for key, item in inner or ():
        yield from _leaves(item, f"{name}.{key}" if name else str(key), depth + 1)
