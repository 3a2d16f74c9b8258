"""Writing TensorBoard's event files, by the book: for tests that need no TensorBoard."""

from __future__ import annotations

import struct

from smart_monitor.sources.crc32c import masked


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def bytes_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def scalar(tag: str, value: float, how: str = "simple") -> bytes:
    """One Summary.Value."""
    name = bytes_field(1, tag.encode())
    if how == "simple":
        return name + b"\x15" + struct.pack("<f", value)
    tensors = {
        "float_val": b"\x08\x01" + bytes_field(5, struct.pack("<f", value)),
        "tensor_content": b"\x08\x01" + bytes_field(4, struct.pack("<f", value)),
        "double_val": b"\x08\x02" + bytes_field(6, struct.pack("<d", value)),
        "string": b"\x08\x07" + bytes_field(8, b"text"),
        "two": b"\x08\x01" + bytes_field(4, struct.pack("<ff", value, value)),
    }
    return name + bytes_field(8, tensors[how])


def event(step: int, values: dict[str, float], time: float = 1.7e9, how: str = "simple") -> bytes:
    summary = b"".join(bytes_field(1, scalar(tag, value, how)) for tag, value in values.items())
    return b"\x09" + struct.pack("<d", time) + b"\x10" + varint(step) + bytes_field(5, summary)


def record(data: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


BEGINNING = record(b"\x09" + struct.pack("<d", 1.7e9) + bytes_field(3, b"brain.Event:2"))


def logged(step: int, values: dict[str, float], time: float = 1.7e9) -> bytes:
    """What SummaryWriter writes: a record for each metric."""
    return b"".join(record(event(step, {tag: value}, time + n / 1000)) for n, (tag, value) in enumerate(values.items()))
