"""Headers of safetensors files: which tensors there are, their types and shapes, where their bytes lie. None is loaded."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import NamedTuple

MAX_HEADER = 100_000_000
"""The format's own limit."""


class Tensor(NamedTuple):
    """One tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Of its bytes in the file."""
    end: int

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


def read_header(path: Path) -> dict[str, Tensor]:
    """Name -> tensor. Raises OSError, or ValueError if it is no whole safetensors file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
        if length > min(MAX_HEADER, size - 8):
            raise ValueError("its header is cut off")
        try:
            header = json.loads(file.read(length))
            return {str(k): _tensor(v, 8 + length, size) for k, v in header.items() if k != "__metadata__"}
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"its header can't be used ({error})") from error


def _tensor(entry: dict[str, object], data: int, size: int) -> Tensor:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or not all(isinstance(n, int) for n in [*shape, *offsets]):
        raise ValueError("its header can't be used")
    begin, end = offsets
    if not 0 <= begin <= end <= size - data:
        raise ValueError("its header names bytes outside of it")
    return Tensor(str(entry["dtype"]), tuple(shape), data + begin, data + end)
