"""Is a file whole? Answers from a few bytes of it, in words, without reading gigabytes and without unpickling.

Formats: safetensors (8-byte little-endian header length, JSON header, tensors back to back to the end),
zip (what torch.save and Keras write; APPNOTE 4.3: the central directory is the last thing in the file),
JSON markers and indexes of Hugging Face writers, `-NNNNN-of-NNNNN` shards.
"""

from __future__ import annotations

import json
import os
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

from smart_monitor.checkpoints.candidate import Candidate, Seen, shard_of, shown

MAX_HEADER = 100 * 2**20
"""The longest header the safetensors reader accepts."""
MAX_MARKER = 64 * 2**20
ZIPPED = (".pt", ".pth", ".ckpt", ".bin")
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
        header = json.loads(os.pread(fd, length, 8))
    except (ValueError, RecursionError):
        return "has a header that does not parse"
    finally:
        os.close(fd)
    try:
        ends = [int(t["data_offsets"][1]) for name, t in header.items() if name != "__metadata__"]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError):
        return "has a header that describes no tensors"
    expected = 8 + length + max(ends, default=0)
    return "" if expected == size else f"is {size} bytes long where its header says {expected}"


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


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None if there is none that parses."""
    try:
        fd = open_plain(path)
        with open(fd, "rb") as file:
            found = json.loads(file.read(MAX_MARKER))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def file_problem(path: Path) -> str:
    """Empty if a file of a known format is whole, or its format is unknown; else a clause that follows its name."""
    try:
        if path.name.endswith(".safetensors"):
            return safetensors_problem(path)
        if path.name.endswith(ZIPPED):
            return zip_problem(path)
    except FileNotFoundError:
        return "vanished"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return ""


def content_missing(candidate: Candidate) -> list[str]:
    """What the files of a candidate themselves say is missing: damage, absent shards, unfinished names."""
    tree = candidate.tree
    said = list(tree.problems)
    said += [f"{shown(name)} is still a temporary file" for name in tree.temporary[:3]]
    for seen in tree.files:
        name = "it" if candidate.single else shown(seen.stamp.path)
        if seen.stamp.path.endswith("checkpoint-is-incomplete.txt"):
            said.append("checkpoint-is-incomplete.txt says that the writer has not finished")
        elif not _readable(candidate.file(seen), seen):
            said.append(f"{name} can't be read by this user (mode {seen.mode & 0o777:04o}, owner uid {seen.uid})")
        elif problem := file_problem(candidate.file(seen)):
            said.append(f"{name} {problem}")
    names = tree.names()
    for seen in tree.files:
        if seen.stamp.path.endswith(".index.json"):
            said += _index_missing(candidate, seen, names)
    said += [f"{shown(name)} is missing" for name in absent_shards(names)]
    if not candidate.single and not tree.files and not said:
        said.append("no file has been written yet")
    return list(dict.fromkeys(said))


def weights_missing(candidate: Candidate) -> list[str]:
    """Said of a directory without a marker that holds only what writers put there before the weights."""
    early = (".json", ".txt", ".md", ".jinja", ".yaml", ".yml", ".py", "tokenizer.model", "spiece.model")
    if any(f.stamp.bytes and not f.stamp.path.endswith(early) for f in candidate.tree.files):
        return []
    return ["no weights have been written yet"]


def indexed_files(path: Path) -> set[str] | None:
    """The file names in the weight map of an index, or None if it does not parse."""
    weight_map = (json_object(path) or {}).get("weight_map")
    return {str(v) for v in weight_map.values()} if isinstance(weight_map, dict) else None


def _index_missing(candidate: Candidate, seen: Seen, names: set[str]) -> list[str]:
    wanted = indexed_files(candidate.file(seen))
    if wanted is None:
        return [f"{shown(seen.stamp.path)} does not parse"]
    folder = seen.stamp.path.rpartition("/")[0]
    paths = {f"{folder}/{w}" if folder else w for w in wanted}
    external = {name for name, _ in candidate.tree.external}
    return [f"{shown(p)} is missing (named in {shown(seen.stamp.path)})" for p in sorted(paths - names - external)[:3]]


def absent_shards(names: set[str]) -> list[str]:
    """Names of shards that the counts in the names of the others promise, three at most of each set."""
    groups: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for name in names:
        if found := shard_of(name):
            groups[found[0], found[2]][found[1]] = name
    absent: list[str] = []
    for (_, count), numbers in sorted(groups.items()):
        first = 0 if 0 in numbers else 1
        if len(numbers) >= count or count > 99_999:
            continue
        number, name = next(iter(sorted(numbers.items())))
        for k in [k for k in range(first, first + count) if k not in numbers][:3]:
            old, new = f"{number:0{_width(name)}d}-of-", f"{k:0{_width(name)}d}-of-"
            absent.append(name.replace(old, new, 1))
    return absent


def _width(name: str) -> int:
    found = name.partition("-of-")[0]
    return len(found) - len(found.rstrip("0123456789"))


def _readable(path: Path, seen: Seen) -> bool:
    return seen.uid == os.geteuid() or os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
