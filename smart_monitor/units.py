"""Quantities for people."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes: 33 B, 1.5 KiB, 4.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
