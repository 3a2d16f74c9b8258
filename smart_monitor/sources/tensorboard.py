"""TensorBoard event files, without TensorBoard: what SummaryWriter, Lightning, Keras and Hugging Face log.

A file is a chain of TFRecords: length (u64), masked CRC-32C of it, data, masked CRC-32C of that; each holds one
`Event` with a time, a step and, for us, scalars: `simple_value`, or a tensor of one element. A torn tail waits.
A record whose data is damaged is left out and said; where a length is damaged, the chain is taken up again at
the next place where length and checksum agree.

The event files of one directory are one source: each restart begins a file, and several may be written at once.
Each logs metric by metric; those of one step are joined into a record (see `grouping`).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smart_monitor.names import MAX_STEP, clean
from smart_monitor.sources import Format
from smart_monitor.sources.appended import Place
from smart_monitor.sources.crc32c import masked
from smart_monitor.sources.files import shown
from smart_monitor.sources.grouping import Row
from smart_monitor.sources.joined import Item, JoinedFiles
from smart_monitor.sources.protobuf import BYTES, FIXED32, FIXED64, VARINT, Malformed, double, fields, signed, single

MAX_EVENT = 1 << 20
"""Bytes of an event; larger ones hold pictures and graphs, and are passed over unread."""
MAX_LENGTH = 1 << 31
"""Bytes: a length beyond it is none."""
CHUNK = 256 << 10
_FOOT = 4
_HEAD = 12
_NAME = re.compile(r"events\.out\.tfevents\.([0-9]{1,18})\.")
_EVALUATION = frozenset({"validation", "val", "eval", "evaluation", "test"})
_KERAS = {"epoch_loss": "loss", "epoch_accuracy": "accuracy", "epoch_learning_rate": "learning_rate"}
_WIDTHS = {1: "f", 2: "d", 3: "i", 9: "q"}
"""The types of tensor that are scalars of ours: float, double, int32, int64."""


class EventFiles(JoinedFiles):
    """The event files directly in the directory `base`, or the one that `base` is. `read` never raises."""

    missing = "no TensorBoard event file"

    def __init__(self, base: Path, run: str, name: str = "") -> None:
        super().__init__(base, run, name or "tensorboard")

    def files(self) -> list[tuple[str, str]]:
        if not os.path.isdir(self.base):
            os.stat(self.base)
            return [(self.base.name, str(self.base))]
        with os.scandir(self.base) as entries:
            found = [(int(match[1]), e.name, e.path) for e in entries if (match := _NAME.search(e.name))]
        return [(name, path) for _, name, path in sorted(found)]

    def items(self, fd: int, name: str, place: Place, final: bool) -> Iterator[Item]:
        for data, start, end, inner in _events(fd, name, place, final):
            if data is None:
                yield Item(float("-inf"), 0, (), end, inner)
                continue
            try:
                time, step, values = read_event(data)
            except (Malformed, struct.error):
                place.say(f"{shown(name)}: the event at byte {start} is no event, left out.")
                time, step, values = 0.0, 0, []
            if not 0 <= step <= MAX_STEP:
                place.say(f"{shown(name)}: step {step} is not usable, left out.")
                values = []
            yield Item(time if values else float("-inf"), step, values, end, inner)

    def row(self, row: Row) -> dict[str, Any]:
        found = super().row(row)
        for keras, own in _KERAS.items():
            if keras in found:
                found[own] = found.pop(keras)
        if self.base.name in _EVALUATION:  # Keras writes evaluation into a directory of its own, under the same names
            found = {
                k if k in ("current_step", "timestamp") or k.startswith("eval") else f"eval/{k}": v for k, v in found.items()
            }
        return found


def _events(fd: int, name: str, place: Place, final: bool) -> Iterator[tuple[bytes | None, int, int, dict[str, Any]]]:
    """(data, start, end, what to remember) of each record behind `place`; data is None where there is none to look into."""
    at, buffer, start = place.offset, b"", place.offset
    lost = bool(place.inner.get("lost"))
    while True:
        if len(buffer) - (at - start) < _HEAD:
            buffer, start = os.pread(fd, CHUNK, at), at
        here = at - start
        if len(buffer) - here < _HEAD:
            if final and len(buffer) > here and not lost:
                place.say(f"{shown(name)} ends in the middle of an event.")
            return
        length, check = struct.unpack_from("<QI", buffer, here)
        if not 0 < length <= MAX_LENGTH or masked(buffer[here : here + 8]) != check:
            if not lost:
                place.say(f"{shown(name)} is damaged at byte {at}; reading goes on where it is whole again.")
                lost = True
            moved = _resynchronised(buffer, here + 1)
            at = start + (moved if moved is not None else max(here + 1, len(buffer) - _HEAD + 1))
            yield None, at, at, {"lost": True}
            continue
        end = at + _HEAD + length + _FOOT
        if length > MAX_EVENT:
            if os.fstat(fd).st_size < end:
                return
            lost, at = False, end
            yield None, at, at, {}
            continue
        if len(buffer) < here + _HEAD + length + _FOOT:
            buffer, start = os.pread(fd, max(CHUNK, _HEAD + length + _FOOT), at), at
            if len(buffer) < _HEAD + length + _FOOT:
                if final:
                    place.say(f"{shown(name)} ends in the middle of an event.")
                return
            here = 0
        data = buffer[here + _HEAD : here + _HEAD + length]
        whole = masked(data) == int.from_bytes(buffer[here + _HEAD + length : here + _HEAD + length + _FOOT], "little")
        if not whole:
            place.say(f"{shown(name)}: the event at byte {at} is damaged, left out.")
        lost = False
        yield (data if whole else None), at, end, {}
        at = end


def _resynchronised(buffer: bytes, here: int) -> int | None:
    """The next place from `here` on where a length and its checksum agree."""
    while True:
        zeros = buffer.find(b"\0\0\0\0", here + 4)  # the upper half of every length
        if zeros < 0 or zeros - 4 + _HEAD > len(buffer):
            return None
        here = zeros - 4
        length, check = struct.unpack_from("<QI", buffer, here)
        if 0 < length <= MAX_LENGTH and masked(buffer[here : here + 8]) == check:
            return here
        here += 1


def read_event(data: bytes) -> tuple[float, int, list[tuple[str, float]]]:
    """(unix seconds, step, scalars) of one `Event`. Raises Malformed, struct.error."""
    time, step = 0.0, 0
    values: list[tuple[str, float]] = []
    for number, kind, whole, raw in fields(data):
        if number == 1 and kind == FIXED64:
            time = double(raw)
        elif number == 2 and kind == VARINT:
            step = signed(whole)
        elif number == 5 and kind == BYTES:
            for inner, inner_kind, _, value in fields(raw):
                if inner == 1 and inner_kind == BYTES and (scalar := _scalar(value)) is not None:
                    values.append(scalar)
    return (time if time == time else 0.0), step, values


def _scalar(value: bytes) -> tuple[str, float] | None:
    """(tag, number) of one `Summary.Value`; None if it is a picture, a histogram or the like."""
    tag, found = "", None
    for number, kind, _, raw in fields(value):
        if number == 1 and kind == BYTES:
            tag = clean(raw[:800].decode("utf-8", "replace"))
        elif number == 2 and kind == FIXED32:
            found = single(raw)
        elif number == 8 and kind == BYTES:
            found = _tensor(raw)
    return (tag, found) if tag and found is not None else None


def _tensor(tensor: bytes) -> float | None:
    """The number in a `TensorProto` of one element."""
    dtype, content, listed = 0, b"", b""
    for number, kind, whole, raw in fields(tensor):
        if number == 1 and kind == VARINT:
            dtype = whole
        elif number == 4 and kind == BYTES:
            content = raw
        elif number in (5, 6) and kind in (BYTES, FIXED32, FIXED64):
            listed += raw
    width, raw = _WIDTHS.get(dtype), content or listed
    if width is None or len(raw) != struct.calcsize(f"<{width}"):
        return None
    return float(struct.unpack(f"<{width}", raw)[0])


def _directory(path: Path) -> Path | None:
    """The directory whose event files belong together."""
    return path.parent if _NAME.search(path.name) else None


FORMAT = Format(
    name="tensorboard", title="TensorBoard event files", patterns=("*.tfevents.*",), order=20,
    open=lambda place, run, name, _: EventFiles(place, run, name), place=_directory, index="the joined step, in order of time",
    late="TensorBoard's SummaryWriter writes every 120 s unless it is told otherwise: SummaryWriter(..., flush_secs=10).",
)  # fmt: skip
