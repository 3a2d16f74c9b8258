"""Is a file whole? Answers from a few bytes of it, in words, without reading gigabytes and without unpickling.

Formats: safetensors (8-byte little-endian header length, JSON header, tensors back to back to the end),
zip (what torch.save and Keras write; APPNOTE 4.3: the central directory is the last thing in the file),
JSON markers and indexes of Hugging Face writers, `-NNNNN-of-NNNNN` shards.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

MAX_HEADER = 100 * 2**20
"""The longest header the safetensors reader accepts."""
MAX_MARKER = 64 * 2**20
MAX_PARSED = 4 * 2**20
"""The longest header that is parsed as JSON; of a longer one only the offsets are looked for."""
_OFFSETS = re.compile(rb'"data_offsets"\s*:\s*\[\s*[0-9]{1,20}\s*,\s*([0-9]{1,20})\s*\]')
ZIPPED = (".pt", ".pth", ".ckpt", ".bin", ".keras", ".nemo", ".lora")
HDF5 = (".h5", ".hdf5")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TAIL = 22 + 65535 + 20


def open_plain(path: Path) -> int:
    """A descriptor of a file of someone else's: never blocks on a fifo, and leaves the access time where allowed."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def safetensors_problem(path: Path) -> str:
    """Empty if the header parses and the tensors end exactly where the file does."""
    fd = open_plain(path)
    try:
        size = os.fstat(fd).st_size
        head = os.pread(fd, 8, 0)
        if len(head) < 8:
            return f"is only {size} bytes long"
        (length,) = struct.unpack("<Q", head)
        if length > MAX_HEADER or 8 + length > size:
            return "has a header that is cut off or was never written"
        header = os.pread(fd, length, 8)
    finally:
        os.close(fd)
    try:
        end = _end_of_tensors(header)
    except (AttributeError, KeyError, IndexError, TypeError, OverflowError):
        return "has a header that describes no tensors"
    except (ValueError, RecursionError):
        return "has a header that does not parse"
    expected = 8 + length + end
    return "" if expected == size else f"is {size} bytes long where its header says {expected}"


def _end_of_tensors(header: bytes) -> int:
    """The largest end in the header, relative to the header's. Raises what a header of nonsense raises."""
    if len(header) > MAX_PARSED:  # what a parser makes of it would take tens of times its size
        if not header.lstrip().startswith(b"{") or not header.rstrip().endswith(b"}"):
            raise ValueError("no object")
        return max((int(m[1]) for m in _OFFSETS.finditer(header)), default=0)
    tensors = json.loads(header)
    return max((int(t["data_offsets"][1]) for name, t in tensors.items() if name != "__metadata__"), default=0)


def zip_problem(path: Path) -> str:
    """Empty if the file is no zip archive, or one whose central directory ends exactly where the file does."""
    fd = open_plain(path)
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return "is empty"
        if os.pread(fd, 2, 0) != b"PK":
            return ""
        start = max(0, size - _TAIL)
        tail = os.pread(fd, size - start, start)
        return (
            ""
            if _central_directory_fits(fd, tail, start)
            else "is a zip archive without its end (still being written, or cut off)"
        )
    finally:
        os.close(fd)


def _central_directory_fits(fd: int, tail: bytes, start: int) -> bool:
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= 22 and at + 22 + struct.unpack_from("<H", tail, at + 20)[0] == len(tail):
            length, offset = struct.unpack_from("<II", tail, at + 12)
            end = start + at
            if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
                (end,) = struct.unpack_from("<Q", tail, at - 12)
                record = os.pread(fd, 56, end)
                if len(record) < 56 or record[:4] != b"PK\x06\x06":
                    return False
                length, offset = struct.unpack_from("<QQ", record, 40)
            first = os.pread(fd, 4, offset) if offset < 2**63 else b""
            return bool(offset + length == end and (length == 0 or first == b"PK\x01\x02"))
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def first_bytes(path: Path, most: int) -> bytes:
    """At most `most` bytes from the start of a file; none if it can't be read."""
    try:
        with open(open_plain(path), "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def short_text(path: Path) -> str | None:
    """The one word in a marker of one line (a tag, a number), "?" for anything else, None if there is no such file.

    A link is never followed: what it leads to might be shown in a log.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "rb") as file:
            text = file.read(256).decode("utf-8", "replace").strip()
    except OSError:
        return None
    return text if re.fullmatch(r"[\w.=+-]{0,120}", text) else "?"


def hdf5_problem(path: Path) -> str:
    """Empty if the file ends where its superblock says (HDF5 file format specification, versions 0 to 3, II.A)."""
    fd = open_plain(path)
    try:
        size = os.fstat(fd).st_size
        at = 0
        while (head := os.pread(fd, 96, at))[:8] != HDF5_SIGNATURE:
            at = at * 2 or 512  # a block of the user's may stand before it
            if at >= min(size, 2**20):
                return "is empty" if size == 0 else "has no HDF5 superblock (still being written, or of another format)"
    finally:
        os.close(fd)
    version, old = head[8], head[8] < 2
    if version > 3 or len(head) < 48:
        return "has an HDF5 superblock that is cut off or unknown"
    width = head[13] if old else head[9]
    start = (28 if version == 1 else 24) if old else 12
    if width not in (2, 4, 8) or len(head) < start + 3 * width:
        return "has an HDF5 superblock that does not parse"
    if not old and head[11] & 1:
        return "is open for writing, says its HDF5 superblock"
    end = int.from_bytes(head[start + 2 * width : start + 3 * width], "little")
    return "" if size in (end, at + end) else f"is {size} bytes long where its HDF5 superblock says {end}"


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None if there is none that parses."""
    try:
        found = json.loads(first_bytes(path, MAX_MARKER))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_json_object(path: Path) -> bool:
    """Does a whole JSON object stand in the file? Of a long one that is indented, only its first and last bytes are read.

    Within indented JSON no closing brace but the last stands at the beginning of a line.
    """
    try:
        with open(open_plain(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_PARSED and file.read(2) == b"{\n" and os.pread(file.fileno(), 64, size - 64).rstrip().endswith(b"\n}"):
                return True
    except OSError:
        return False
    return json_object(path) is not None


def file_problem(path: Path) -> str:
    """Empty if a file of a known format is whole, or its format is unknown; else a clause that follows its name."""
    try:
        if path.name.endswith(".safetensors"):
            return safetensors_problem(path)
        if path.name.endswith(ZIPPED):
            return zip_problem(path)
        if path.name.endswith(HDF5):
            return hdf5_problem(path)
    except FileNotFoundError:
        return "vanished"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return ""
