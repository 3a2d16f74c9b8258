"""When what is measured: everything costs something, and most of it changes slowly."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every how many steps; 0: never. Raises ValueError for a number below 0."""

    norms: int = 1
    """Gradient norms, NaN and Inf; without them there is no record."""
    layers: int = 10
    """The norm of every layer in the record; they are there as well whenever something is out of the ordinary."""
    direction: int = 20
    """Cosine of consecutive gradients."""
    updates: int = 10
    """|update| / |weights|, and layers that do not move."""
    weights: int = 100
    """Distribution and stability of the weights."""
    pairs: int = 50
    """Calibration of reward pairs."""
    memory: int = 10
    """Memory of the process and of the device."""
    spread: int = 50
    """Mean and variance of the norm of every layer over the last 50 steps."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 0:
                raise ValueError(f"{each.name} is a number of steps, not {getattr(self, each.name)}")

    def due(self, quantity: str, step: int) -> bool:
        every: int = getattr(self, quantity)
        return every > 0 and step % every == 0
