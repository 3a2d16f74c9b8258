"""What is measured at which step, and how its numbers travel: one vector, one reduction, whoever fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from smart_monitor.probe.direction import Direction
from smart_monitor.probe.gradients import GradientMeter, Gradients, Pending
from smart_monitor.probe.hooked import HookedMeter
from smart_monitor.probe.parameters import CannotMeasure, held_parameters
from smart_monitor.probe.records import Layers, direction_figures, update_figures
from smart_monitor.probe.schedule import Schedule
from smart_monitor.probe.weights import Distribution, Updates

LOOK_AGAIN = 10
"""Steps between two looks at which parameters a model has and trains."""


class Measuring:
    """The meters of one model, and the plan by which they are used.

    In a sharded model the vector must have one length on all ranks, also on one whose meters fail: `plan` decides it
    from the step's number alone, and `failed` fills it with zeros and tells the others.
    """

    def __init__(
        self, model: nn.Module, schedule: Schedule, *, exact: bool | None, in_backward: bool, rank: int, every_rank: bool
    ) -> None:
        self.schedule = schedule
        self._model, self._exact, self._in_backward = model, exact, in_backward
        self._every_rank = rank == 0 or every_rank
        self._asked, self._wait, self._look_at = 0, LOOK_AGAIN, LOOK_AGAIN
        self.begin()

    def begin(self) -> None:
        """Make the meters for the parameters that the model has now. Raises CannotMeasure."""
        model, schedule, exact, in_backward = self._model, self.schedule, self._exact, self._in_backward
        if any(is_lazy(p) or p.is_meta for p in model.parameters()):
            raise CannotMeasure("The model holds parameters without values (meta, lazy); make the probe when they have some.")
        held = held_parameters(model)
        self.names = [h.name for h in held]
        self.meter = HookedMeter(model, held) if in_backward else GradientMeter(model, held)
        self._known = self._parameters()
        self.sharded = self.meter.sharded
        self.measures = self._every_rank or self.sharded
        """Does this rank measure gradients? Without shards they are the same on all."""
        self.device = held[0].local(held[0].parameter).device
        self.late = self.device.type == "cuda" or self.sharded
        """Are figures read some steps later?"""
        self.here = not self.late and not in_backward
        """Are the gradients still there when the figures are read?"""
        compared = schedule.direction and not in_backward and self.measures
        self.direction = Direction(held, sharded=self.sharded, exact=exact) if compared else None
        self.updates = Updates(held, sharded=self.sharded, exact=exact) if schedule.updates and self.measures else None
        self.weights = Distribution(held, sharded=self.sharded) if schedule.weights and self.measures else None
        self.failed = ""
        """Why this rank can measure no more, as long as the others do not know it."""
        self.started = False
        """Is the vector of this step on its way?"""
        self.parts: list[str] = []
        """The sums of this step."""
        self._step = 0
        self._begun = self._moving = False

    def outdated(self) -> bool:
        """Were parameters added, replaced, frozen or unfrozen since `begin`? Asked at every step, it looks at every tenth.

        After a change it looks half as often: who freezes a part in turn, as adversarial training does, is not to
        pay for new meters again and again. Not where ranks must agree about it, nor where hooks hang on the parameters.
        """
        self._asked += 1
        if self.sharded or self._in_backward or self._asked < self._look_at:
            return False
        changed = self._parameters() != self._known
        self._wait = 2 * self._wait if changed else LOOK_AGAIN
        self._look_at = self._asked + self._wait
        return changed

    def _parameters(self) -> list[tuple[int, bool, torch.Size]]:
        return [(id(p), p.requires_grad, p.shape) for p in self._model.parameters()]

    def plan(self, step: int) -> bool:
        """Decide what this step adds up; is there anything to be measured?"""
        due = self.schedule.due
        self._step, self.started = step, False
        self.parts = ["updates"] if self._moving else []
        if self.direction is not None and due("direction", step) and self._begun:
            self.parts.append("direction")
        if self.weights is not None and due("weights", step):
            self.parts.append("weights")
        self._begun |= self._looks()
        self._moving = self.updates is not None and due("updates", step)
        return due("norms", step) or bool(self.parts)

    def _looks(self) -> bool:
        due = self.schedule.due
        return self.direction is not None and (due("direction", self._step) or due("direction", self._step + 1))

    def measure(self, own: dict[str, Tensor]) -> list[Tensor | None]:
        """The sums of the plan, in its order; what is to be read besides is added to `own`."""
        found: dict[str, Tensor | None] = {}
        if "updates" in self.parts and self.updates is not None:
            found["updates"] = self._try(self.updates.after)
        if self._looks() and self.direction is not None:
            found["direction"] = self._try(self.direction.look)
        if "weights" in self.parts and self.weights is not None:
            looked = self._try(self.weights.look)
            found["weights"] = looked[0] if looked else None
            if looked:
                own["least"], own["greatest"] = looked[1]
        if self._moving and self.updates is not None:
            self._try(self.updates.before)
        return [found[name] for name in self.parts]

    def _try(self, measure: Callable[[], Any]) -> Any:
        """What `measure` gives. In a sharded model a failure waits for the reduction, where the others wait for us."""
        if not self.sharded:
            return measure()
        try:
            return None if self.failed else measure()
        except Exception as error:
            self.failed = sentence(error)
            return None

    def start(self, parts: Sequence[Tensor | None], own: Mapping[str, Tensor], scale: Tensor | None) -> Pending:
        """Send everything on its way."""
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        besides = _flat(own.values(), self.device, kind)
        if not self.measures:
            return self.meter.carry(besides)
        sums = [torch.zeros(self.size(n), device=self.device) if p is None else p for n, p in zip(self.parts, parts, strict=True)]
        self.started = True
        return self.meter.start(scale, _flat(sums, self.device, kind), besides, failed=bool(self.failed))

    def take_part(self) -> Pending:
        """Only keep the others from waiting, and tell them."""
        with torch.no_grad():
            return self.start([None] * len(self.parts), {}, None)

    def size(self, part: str) -> int:
        """How many sums a part has."""
        if part == "weights":
            return Distribution.SUMS
        meter = self.updates if part == "updates" else self.direction
        return meter.size if meter is not None else 0

    def figures(
        self, parts: Sequence[str], sums: Sequence[float], own: Mapping[str, float], gradients: Gradients, layers: Layers
    ) -> dict[str, Any]:
        """What the sums say, for the record."""
        found: dict[str, Any] = {}
        for part in parts:
            mine, sums = sums[: self.size(part)], sums[self.size(part) :]
            if part == "updates" and self.updates is not None:
                found |= update_figures(self.updates, mine, gradients, layers)
            elif part == "direction" and self.direction is not None:
                found |= direction_figures(self.direction, mine, layers)
            elif part == "weights":
                found |= Distribution.summary(mine, (own.get("least", math.nan), own.get("greatest", math.nan)))
        return found


def sentence(error: BaseException) -> str:
    """An error in words."""
    return f"{type(error).__name__}: {error}".rstrip(".: ")[:500]


def _flat(tensors: Iterable[Tensor], device: torch.device, kind: torch.dtype) -> Tensor | None:
    """One vector of them all; None of none."""
    moved = [t.detach().to(device, kind, non_blocking=True).reshape(-1) for t in tensors]
    return torch.cat(moved) if moved else None
