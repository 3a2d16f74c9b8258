"""The gradients of a module, measured now: one norm a tensor, all in one small vector, read when it is there.

The vector is made by one multi-tensor reduction without a branch on a value, so that a GPU is never waited for:
`GradientMeter.start()` copies it into pinned memory beside an event, `Pending.ready()` asks the event.
`GradientMeter.measure()` is the same, read at once: on a GPU it waits for it.

Elements are counted only once a norm is not finite: NaN hides Inf in a norm, and a norm can overflow where
no element is infinite (squares of 1e20 in float32). On a GPU that is known a step later, when the gradients
are gone; only `measure()` can then count them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smart_monitor.probe.parameters import Held, held_parameters

CHUNK = 1 << 18
"""Elements that are summed in single precision at most on a CPU: one sum over 33 million was 0.2 % too low."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """What was measured of one backward pass. Norms are L2, in the unit of the loss (divided by the loss scale)."""

    norms: Mapping[str, float]
    """Trainable tensor that has a gradient -> its norm; NaN or infinite only if it holds such elements (`counted`) or may."""
    absent: tuple[str, ...] = ()
    """Trainable tensors without a gradient."""
    frozen: tuple[str, ...] = ()
    """Tensors that do not require one."""
    nan: Mapping[str, int] = field(default_factory=dict)
    """Tensor -> NaN elements, where there are any."""
    inf: Mapping[str, int] = field(default_factory=dict)
    """Tensor -> infinite elements, where there are any."""
    overflow: tuple[str, ...] = ()
    """Tensors of finite elements whose norm overflowed single precision; their norm here is the right one."""
    counted: bool = True
    """Are `nan`, `inf` and `overflow` exact? False: a norm was not finite, and the elements were gone when that was known."""

    @property
    def total(self) -> float:
        """The norm of all gradients together."""
        return _root_of_squares(self.norms.values())

    @property
    def finite(self) -> list[float]:
        """The norms that are finite numbers."""
        return [n for n in self.norms.values() if math.isfinite(n)]

    @property
    def largest(self) -> float:
        """The largest finite norm of a tensor; 0.0 of none."""
        return max(self.finite, default=0.0)

    @property
    def smallest(self) -> float:
        """The smallest norm of a tensor that is not zero; 0.0 of none."""
        return min((n for n in self.finite if n > 0), default=0.0)

    @property
    def mean(self) -> float:
        """The mean of the finite norms of tensors; 0.0 of none."""
        finite = self.finite
        return math.fsum(finite) / len(finite) if finite else 0.0

    @property
    def zero(self) -> tuple[str, ...]:
        """Tensors whose gradient is exactly zero."""
        return tuple(name for name, norm in self.norms.items() if norm == 0.0)

    @property
    def has_nan(self) -> bool:
        return bool(self.nan) or (not self.counted and any(math.isnan(n) for n in self.norms.values()))

    @property
    def has_inf(self) -> bool:
        """Infinite elements; if they could not be counted, an infinite norm is taken for one."""
        return bool(self.inf) or (not self.counted and any(math.isinf(n) for n in self.norms.values()))


class Pending:
    """A measurement on its way from the device."""

    def __init__(self, meter: GradientMeter, present: list[Held], vectors: list[_Vector]) -> None:
        self._meter, self._present, self._vectors = meter, present, vectors
        self._absent, self._frozen = meter.absent_now, meter.frozen_now

    def ready(self) -> bool:
        """Can it be read without waiting?"""
        return all(vector.ready() for vector in self._vectors)

    def result(self, *, here: bool = False) -> Gradients:
        """Read it; waits for the device if it is not ready. `here`: the gradients are still those that were measured."""
        squares: dict[str, float] = {held.name: 0.0 for held in self._present}
        scale = 1.0
        for vector in self._vectors:
            values = vector.read()
            if vector.scaled:
                scale = values.pop() or 1.0
            for name, value in zip(vector.names, values, strict=True):
                squares[name] += value if vector.squared else value * value
        norms = {name: math.sqrt(square) for name, square in squares.items()}
        suspects = [held for held in self._present if not math.isfinite(norms[held.name])]
        nan: dict[str, int] = {}
        inf: dict[str, int] = {}
        overflow: list[str] = []
        if suspects and here:
            for held, (nans, infs, norm) in zip(suspects, self._meter.count(suspects), strict=True):
                if nans:
                    nan[held.name] = nans
                if infs:
                    inf[held.name] = infs
                if not nans and not infs:
                    overflow.append(held.name)
                    norms[held.name] = norm
        if scale != 1.0:
            norms = {name: norm / scale for name, norm in norms.items()}
        for name in self._absent:
            norms.pop(name, None)
        counted = here or not suspects
        return Gradients(norms, self._absent, self._frozen, nan, inf, tuple(overflow), counted)


class GradientMeter:
    """Measures the gradients of one module. Raises CannotMeasure, one sentence, for a module it cannot.

    Sharded parameters (FSDP2, tensor parallel) are summed up over all ranks by one reduction of the packed vector:
    every rank must then measure at the same steps.
    """

    def __init__(self, model: nn.Module, held: Sequence[Held] | None = None) -> None:
        self.held = list(held or held_parameters(model))
        self.sharded = any(h.distributed for h in self.held)
        self.absent_now: tuple[str, ...] = ()
        self.frozen_now: tuple[str, ...] = ()

    def measure(self, scale: Tensor | None = None) -> Gradients:
        """What the gradients are now. `scale`: the loss scale they still carry."""
        return self.start(scale).result(here=True)

    def start(self, scale: Tensor | None = None) -> Pending:
        """Begin to measure; nothing is waited for."""
        present: list[Held] = []
        absent: list[str] = []
        frozen: list[str] = []
        groups: dict[tuple[torch.device, torch.dtype], tuple[list[str], list[Tensor], list[float]]] = {}
        for held in self.held:
            gradient = held.parameter.grad
            if gradient is None:
                (absent if held.parameter.requires_grad else frozen).append(held.name)
                if not (self.sharded and held.parameter.requires_grad):
                    continue
                local = held.local(held.parameter)[:0]  # in its place in the vector, which is of one length on all ranks
            elif not held.parameter.requires_grad:
                frozen.append(held.name)
                continue
            else:
                local = held.local(gradient)
            present.append(held)
            kind = torch.float64 if local.dtype == torch.float64 else torch.float32
            names, parts, weights = groups.setdefault((local.device, kind), ([], [], []))
            for part in _parts(local):
                names.append(held.name)
                parts.append(part)
                weights.append(held.weight)
        self.absent_now, self.frozen_now = tuple(absent), tuple(frozen)
        vectors = []
        for at, ((device, kind), (names, parts, weights)) in enumerate(groups.items()):
            packed = torch.stack(torch._foreach_norm(parts, 2, dtype=kind))
            if self.sharded:
                names, packed = _reduced(names, packed, weights)
            scaled = scale is not None and at == 0
            if scale is not None and scaled:
                packed = torch.cat([packed, scale.detach().reshape(1).to(packed)])
            vectors.append(_Vector(names, packed, device, squared=self.sharded, scaled=scaled))
        return Pending(self, present, vectors)

    def count(self, suspects: Sequence[Held]) -> list[tuple[int, int, float]]:
        """(NaN elements, infinite elements, norm in double precision) of the gradients as they are now. Waits for the device."""
        rows = []
        for held in suspects:
            gradient = held.parameter.grad
            if gradient is None:
                rows.append([0.0, 0.0, 0.0])
                continue
            local = held.local(gradient)
            norm = _wide_norm(local)
            rows.append([float(local.isnan().sum()), float(local.isinf().sum()), norm * norm])
        if self.sharded:
            weights = [held.weight for held in suspects]
            table = torch.tensor(rows, dtype=torch.float64, device=_device_of(suspects)) * torch.tensor(
                weights, dtype=torch.float64, device=_device_of(suspects)
            ).unsqueeze(1)
            dist.all_reduce(table)
            rows = table.tolist()
        return [(round(nans), round(infs), math.sqrt(square)) for nans, infs, square in rows]


class _Vector:
    """Numbers of one device on their way to the host: direct on a CPU, else by pinned memory and an event."""

    def __init__(self, names: list[str], packed: Tensor, device: torch.device, *, squared: bool, scaled: bool) -> None:
        self.names, self.squared, self.scaled = names, squared, scaled
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self._host.copy_(packed, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))
            self._device = packed  # kept alive until it is copied
        else:
            self._host = packed

    def ready(self) -> bool:
        return self._event is None or bool(self._event.query())

    def read(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return list(self._host.tolist())


def measure_gradients(model: nn.Module) -> Gradients:
    """What the gradients of `model` are now, read at once. For a model measured again and again make a GradientMeter."""
    return GradientMeter(model).measure()


def _parts(local: Tensor) -> Sequence[Tensor]:
    """`local` in parts short enough to be summed in single precision."""
    if local.device.type == "cpu" and local.numel() > CHUNK and local.is_contiguous() and local.dtype != torch.float64:
        return local.view(-1).split(CHUNK)
    return (local,)


def _reduced(names: list[str], norms: Tensor, weights: list[float]) -> tuple[list[str], Tensor]:
    """Each tensor's sum of squares over all ranks: one reduction of one vector in double precision."""
    order = {name: at for at, name in enumerate(dict.fromkeys(names))}
    squares = norms.double().square() * torch.tensor(weights, dtype=torch.float64, device=norms.device)
    index = torch.tensor([order[name] for name in names], device=norms.device)
    packed = torch.zeros(len(order), dtype=torch.float64, device=norms.device).index_add_(0, index, squares)
    dist.all_reduce(packed)
    return list(order), packed


def _wide_norm(local: Tensor) -> float:
    """The norm in double precision, scaled by the largest element if even that overflows; NaN or inf if the elements are."""
    wide = local.double()
    norm = float(torch.linalg.vector_norm(wide))
    if not math.isinf(norm):
        return norm
    largest = float(wide.abs().amax())
    return norm if math.isinf(largest) else largest * float(torch.linalg.vector_norm(wide / largest))


def _root_of_squares(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.nan if any(map(math.isnan, numbers)) else math.hypot(*numbers)


def _device_of(held: Sequence[Held]) -> torch.device:
    return held[0].local(held[0].parameter).device
