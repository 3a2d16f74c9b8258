"""Writing wandb's offline files, by the book: for tests that need no wandb."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.sources.events import bytes_field, varint

BEGINNING = b":W&B\xe1\xbe\x00"
BLOCK = 32 << 10


def history(step: int, values: dict[str, Any]) -> bytes:
    """A record that holds a row; a name in dots is a nested one."""
    row = b""
    for name, value in {**values, "_step": step}.items():
        parts = name.split(".")
        key = bytes_field(1, name.encode()) if len(parts) == 1 else b"".join(bytes_field(2, p.encode()) for p in parts)
        row += bytes_field(1, key + bytes_field(16, json.dumps(value).encode()))
    return b"\x08\x01" + bytes_field(2, row + bytes_field(2, b"\x08" + varint(step)))


def exit_record(code: int) -> bytes:
    return b"\x08\x02" + bytes_field(18, b"\x08" + varint(code) if code else b"")


def chunks(content: bytes, at: int) -> bytes:
    """`content` as a record of a LevelDB log that stands at byte `at`."""
    found, first = b"", True
    while True:
        left = BLOCK - (at + len(found)) % BLOCK
        if left < 7:
            found += bytes(left)
            continue
        part, content = content[: left - 7], content[left - 7 :]
        kind = (1 if not content else 2) if first else (4 if not content else 3)
        found += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
        first = False
        if not content:
            return found


def log(records: list[bytes]) -> bytes:
    found = BEGINNING
    for content in records:
        found += chunks(content, len(found))
    return found


def append(path: Path, content: bytes) -> None:
    """One more record at the end of a file, which begins with it."""
    with path.open("ab") as file:
        at = file.tell()
        file.write((BEGINNING + chunks(content, 7)) if not at else chunks(content, at))
