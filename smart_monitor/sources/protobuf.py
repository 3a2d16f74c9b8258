"""Enough of the protocol-buffer wire format to find the few fields of a message that matter."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Field = tuple[int, int, int, bytes]
"""(number, wire type, value of a varint, raw bytes of all others)."""


class Malformed(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in order. Raises Malformed."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, kind, value, b""
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise Malformed(f"wire type {kind}")
        if at + size > end:
            raise Malformed("a field that ends behind its message")
        yield number, kind, 0, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        if byte < 128:
            return byte, at + 1
        value, shift = byte & 127, 7
        while shift < 70:
            at += 1
            byte = data[at]
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at + 1
            shift += 7
    except IndexError:
        pass
    raise Malformed("a number without an end")


def signed(value: int) -> int:
    """A varint as an int64."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def double(raw: bytes) -> float:
    """A fixed64 as a double."""
    found: float = struct.unpack("<d", raw)[0]
    return found


def single(raw: bytes) -> float:
    """A fixed32 as a float, exactly as written: the nearest double to a float is the float itself."""
    found: float = struct.unpack("<f", raw)[0]
    return found
