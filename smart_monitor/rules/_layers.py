"""Which layers a finding is about, where the probe inside the training process names them in the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

SHOWN = 4
"""Layers named in a message; the evidence has up to four times as many."""
NORM, SHARE = "grad_layer/", "grad_cosine_share/"


def layers(values: Mapping[str, float], prefix: str, order: Callable[[float], float] = float) -> dict[str, float]:
    """Layer -> value of the metrics named `prefix` + layer that are finite, the least by `order` first."""
    found = {name[len(prefix) :]: v for name, v in values.items() if name.startswith(prefix) and v - v == 0}
    return dict(sorted(found.items(), key=lambda item: order(item[1]))[: 4 * SHOWN])


def largest(values: Mapping[str, float]) -> dict[str, float]:
    """The layers with the largest gradient norms, the largest first."""
    return layers(values, NORM, lambda norm: -norm)


def not_finite(values: Mapping[str, float]) -> list[str]:
    """The layers whose gradient norm is NaN or infinite."""
    return [name[len(NORM) :] for name, v in values.items() if name.startswith(NORM) and v - v != 0][: 4 * SHOWN]


def listed(names: Iterable[str], words: str) -> str:
    """`words` and the first few names, to end a message; empty if there are none."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{words}{', '.join(names[:SHOWN])}{more}" if names else ""
