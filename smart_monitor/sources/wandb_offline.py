"""Weights & Biases, offline: `run-ID.wandb`, without wandb.

The file is a LevelDB log (":W&B", a magic number, a version; blocks of 32 KiB of chunks, each with a CRC-32 of
its type and data), each record of it a protocol-buffer message. Rows are the history records: names (nested ones
in parts) and JSON values. The last record says how the process ended.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from smart_monitor.model import STATE, Record
from smart_monitor.names import read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.appended import AppendedFile, Place
from smart_monitor.sources.files import shown
from smart_monitor.sources.protobuf import BYTES, VARINT, Malformed, fields, signed

BLOCK = 32 << 10
MAX_RECORD = 16 << 20
"""Bytes; larger records are passed over."""
MAGIC = b":W&B\xe1\xbe"
_FILE_HEAD = 7
_HEAD = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _EXIT = 2, 18
_BATCH = 256 << 10
_VALUE = json.JSONDecoder().decode


class WandbFile(AppendedFile):
    """The history of one run. `read` never raises."""

    rotates = False

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[list[Record]]:
        found: list[Record] = []
        start = place.offset
        for content, end in _records(fd, place, self.path, final):
            place.offset = end
            if content is not None:
                try:
                    self._add(content, place.begun(fd, settled=end), place, seen, found)
                except (Malformed, ValueError, RecursionError):
                    place.say(f"{shown(self.path)}: the record before byte {end} cannot be read, left out.")
            if end - start >= _BATCH:
                yield found
                found, start = [], end
        yield found

    def _add(self, content: bytes, ids: dict[str, str], place: Place, seen: float | None, found: list[Record]) -> None:
        for number, kind, _, raw in fields(content):
            if number == _HISTORY and kind == BYTES:
                reading = read_row(_history(raw))
                for oddity in reading.oddities:
                    place.note(place.row, oddity)
                place.known = place.known or reading.recognised
                if reading.values or reading.nulls:
                    found.append(record_of(self.run, self.name, place.row, reading, ids, seen))
                place.row += 1
            elif number == _EXIT and kind == BYTES:
                code = next((signed(whole) for n, k, whole, _ in fields(raw) if n == 1 and k == VARINT), 0)
                state, note = ("crashed", f"exit code {code}") if code else ("completed", "")
                found.append(
                    Record(self.run, self.name, place.row, seen=seen, ids=ids, kind=STATE, state=state, note=note)
                )  # fmt: skip


def _records(fd: int, place: Place, path: str, final: bool) -> Iterator[tuple[bytes | None, int]]:
    """(content, end) of each record behind `place`; content is None where there is none to be used."""
    at = place.offset
    if not at:
        head = os.pread(fd, _FILE_HEAD, 0)
        if len(head) < _FILE_HEAD and MAGIC.startswith(head[: len(MAGIC)]):
            return
        if not head.startswith(MAGIC):
            place.say(f"{shown(path)} is no file of wandb's.")
            place.inner = {"foreign": True}
        at = _FILE_HEAD
    if place.inner.get("foreign"):
        yield None, os.fstat(fd).st_size
        return
    parts: list[bytes] = []
    for kind, data, end in _chunks(fd, at, place, path, final):
        if kind in (_FULL, _FIRST):
            parts = []
        if kind is None or (kind in (_MIDDLE, _LAST) and not parts):
            parts = []
            yield None, end
            continue
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts), end
            parts = []
        elif sum(map(len, parts)) > MAX_RECORD:
            place.say(f"{shown(path)}: the record before byte {end} is longer than {MAX_RECORD >> 20} MiB, left out.")
            parts = []
            yield None, end


def _chunks(fd: int, at: int, place: Place, path: str, final: bool) -> Iterator[tuple[int | None, bytes, int]]:
    """(type, data, end) of each chunk from `at` on; the type is None for a stretch that is no chunk."""
    buffer, start = b"", at
    while True:
        left = BLOCK - at % BLOCK
        if left < _HEAD:  # too short for a chunk: the writer fills it up
            at += left
            continue
        if at - start + left > len(buffer):
            buffer, start = os.pread(fd, _BATCH, at), at
        here = at - start
        block = buffer[here : here + left]
        if len(block) < _HEAD:
            if final and block:
                place.say(f"{shown(path)} ends in the middle of a record.")
            return
        check, length, kind = struct.unpack_from("<IHB", block)
        if _HEAD + length > len(block) and len(block) < left:
            if final:
                place.say(f"{shown(path)} ends in the middle of a record.")
            return
        data = block[_HEAD : _HEAD + length]
        if len(data) == length and _FULL <= kind <= _LAST and zlib.crc32(data, zlib.crc32(block[6:7])) == check:
            at += _HEAD + length
            yield kind, data, at
            continue
        if len(block) < left:
            return  # this block is still being written
        place.say(f"{shown(path)} is damaged at byte {at}; reading goes on at its next block.")
        at += left
        yield None, b"", at


def _history(raw: bytes) -> dict[str, Any]:
    """The row of a `HistoryRecord`."""
    row: dict[str, Any] = {}
    for number, kind, _, content in fields(raw):
        if number == 1 and kind == BYTES:
            _item(content, row)
        elif number == 2 and kind == BYTES:
            step = next((signed(whole) for n, k, whole, _ in fields(content) if n == 1 and k == VARINT), 0)
            row.setdefault("_step", step)
    return row


def _item(content: bytes, row: dict[str, Any]) -> None:
    """Add one `HistoryItem`."""
    name, parts, written = "", [], ""
    for number, kind, _, raw in fields(content):
        if kind == BYTES and number in (1, 2, 16):
            text = raw.decode("utf-8", "replace")
            if number == 1:
                name = text
            elif number == 2:
                parts.append(text)
            else:
                written = text
    value = _VALUE(written) if written else None
    if isinstance(value, dict) and "_type" in value:
        return  # a picture, a histogram: its numbers are no metrics
    if parts:
        name, inner = (parts[0], "/".join(parts[1:])) if len(parts) > 1 else (parts[0], "")
        if inner:
            below = row.setdefault(name, {})
            if isinstance(below, dict):
                below[inner] = value
            return
    if name:
        row[name] = value


FORMAT = Format(
    name="wandb", title="the offline history of wandb", patterns=("*.wandb",), order=40,
    open=lambda place, run, name, _: WandbFile(place, run, name), index="the history record",
)  # fmt: skip
