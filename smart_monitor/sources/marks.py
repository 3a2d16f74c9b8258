"""What makes two observations the same one."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from smart_monitor.aliases import is_clock
from smart_monitor.model import Reading, Record

_clock = lru_cache(maxsize=4096)(is_clock)


def digest(raw: bytes) -> str:
    """A short name for some bytes."""
    return blake2b(raw, digest_size=16).hexdigest()


def mark(reading: Reading | Record) -> str:
    """All that an observation says but time, clocks and words."""
    values = sorted([(k, v) for k, v in reading.values.items() if not _clock(k)])
    return digest(repr((reading.step, reading.by, reading.epoch, values, reading.nulls, reading.ids)).encode())
