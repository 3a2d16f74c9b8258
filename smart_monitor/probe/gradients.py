"""The gradients of a module, measured now: one norm a tensor, all in one small vector, read when it is there.

The vector is made by one multi-tensor reduction without a branch on a value, so that a GPU is never waited for:
`GradientMeter.start()` copies it into pinned memory beside an event, `Pending.ready()` asks the event.
`GradientMeter.measure()` is the same, read at once: on a GPU it waits for it.

Elements are counted only once a norm is not finite: NaN hides Inf in a norm, and a norm can overflow where
no element is infinite (squares of 1e20 in float32); nor is a norm of zero believed (squares of 1e-25). On a GPU that
is known a step later, when the gradients are gone; only `measure()` can then look at them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smart_monitor.probe.parameters import Held, held_parameters

ROW = 1 << 14
"""Elements that are summed in single precision at most on a CPU: one sum over 33 million was 0.2 % too low."""
PLACES = 16
"""Groups of tensors whose places in the vector are remembered."""
SAFE = 1e-140
"""Norms below may have lost squares in double precision."""
FAINT = 1e-14
"""Norms below may have lost squares that single precision cannot hold (of elements below 1e-19)."""


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

    def __init__(self, meter: GradientMeter, present: Sequence[Held], vectors: list[_Vector]) -> None:
        self._meter, self._present, self._vectors = meter, present, vectors
        self._absent, self._frozen = meter.absent_now, meter.frozen_now
        self.sums: list[float] = []
        """What was to be added up over ranks, once `result` was asked for."""
        self.own: list[float] = []
        """What else was to be read."""
        self.failed = False
        """Did a rank fail to measure?"""

    def ready(self) -> bool:
        """Can it be read without waiting?"""
        return all(vector.ready() for vector in self._vectors)

    def result(self, *, here: bool = False) -> Gradients:
        """Read it; waits for the device if it is not ready. `here`: the gradients are still those that were measured."""
        squares: dict[str, float] = {held.name: 0.0 for held in self._present}
        scale = 1.0
        for at, vector in enumerate(self._vectors):
            values = vector.read()
            count = len(vector.names)
            for name, value in zip(vector.names, values, strict=False):
                squares[name] += value if vector.squared else value * value
            if at == 0:
                self.sums, self.own = values[count : count + vector.sums], values[count + vector.sums :]
        if self._meter.sharded:
            self.failed = self.sums.pop(0) > 0
        if self._vectors[0].scaled:
            scale = self.own.pop()
        norms = {name: math.sqrt(square) for name, square in squares.items() if name not in self._absent}
        suspects = [held for held in self._present if not math.isfinite(norms.get(held.name, 0.0))]
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
        if here and not self._meter.sharded:  # of shards the others lie elsewhere
            norms |= _faint_norms([h for h in self._present if norms.get(h.name, 1.0) < FAINT])
        if scale not in (0.0, 1.0):
            norms = {name: norm / scale for name, norm in norms.items()}
        return Gradients(norms, self._absent, self._frozen, nan, inf, tuple(overflow), here or not suspects)


class GradientMeter:
    """Measures the gradients of one module. Raises CannotMeasure, one sentence, for a module it cannot.

    Sharded parameters (FSDP2, tensor parallel) are summed up over all ranks by one reduction of the packed vector:
    every rank must then measure at the same steps. A rank that fails to measure takes part in it nevertheless and
    says so in it, so that nobody waits for it: `Pending.failed`.
    """

    def __init__(self, model: nn.Module, held: Sequence[Held] | None = None) -> None:
        self.held = list(held or held_parameters(model))
        self.sharded = any(h.distributed for h in self.held)
        self.absent_now: tuple[str, ...] = ()
        self.frozen_now: tuple[str, ...] = ()
        self._device = _device_of(self.held)
        self._placed: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[Tensor, Tensor]] = {}

    def measure(self, scale: Tensor | None = None) -> Gradients:
        """What the gradients are now. `scale`: the loss scale they still carry."""
        return self.start(scale).result(here=True)

    def start(
        self, scale: Tensor | None = None, sums: Tensor | None = None, own: Tensor | None = None, *, failed: bool = False
    ) -> Pending:
        """Begin to measure; nothing is waited for.

        Numbers of others travel in the same vector: `sums`, added up over the ranks of a sharded model, and `own`, as
        they are. `failed`: only take part in the reduction, and tell all ranks.
        """
        present = self._sorted()
        vectors = self._sharded(present, sums, failed=failed) if self.sharded else self._whole(present, sums)
        names, packed, count = vectors[0]
        extras = [v.detach().reshape(-1).to(packed, non_blocking=True) for v in (own, scale) if v is not None]
        vectors[0] = names, torch.cat([packed, *extras]) if extras else packed, count
        made = [_Vector(*vector, squared=self.sharded, scaled=scale is not None and at == 0) for at, vector in enumerate(vectors)]
        return Pending(self, present, made)

    def carry(self, own: Tensor | None) -> Pending:
        """Measure nothing, only bring `own` to the host."""
        self.absent_now, self.frozen_now = (), ()
        vector = _Vector([], own if own is not None else torch.zeros(0, device=self._device), 0, squared=False, scaled=False)
        return Pending(self, [], [vector])

    def _sorted(self) -> list[Held]:
        """The tensors to be measured; the others go to `absent_now` and `frozen_now`."""
        present: list[Held] = []
        absent: list[str] = []
        frozen: list[str] = []
        for held in self.held:
            if not held.parameter.requires_grad:
                frozen.append(held.name)
            elif held.parameter.grad is None:
                absent.append(held.name)
                if self.sharded:
                    present.append(held)  # in its place in the vector, which is of one length on all ranks
            else:
                present.append(held)
        self.absent_now, self.frozen_now = tuple(absent), tuple(frozen)
        return present

    def _whole(self, present: list[Held], sums: Tensor | None) -> list[tuple[list[str], Tensor, int]]:
        """(names, norms and sums, number of sums) for each device, the model's first one first."""
        names: dict[torch.device, list[str]] = {self._device: []}
        found: dict[torch.device, list[Tensor]] = {self._device: []}
        for device, named, norms in _norms(present):
            names.setdefault(device, []).extend(named)
            found.setdefault(device, []).append(norms)
        made = []
        for device, norms in found.items():
            wide = _wide(device)
            extra = [sums] if sums is not None and device == self._device else []
            packed = [n.to(wide) for n in (*norms, *extra)] or [torch.zeros(0, dtype=wide, device=device)]
            made.append((names[device], torch.cat(packed), extra[0].numel() if extra else 0))
        return made

    def _sharded(self, present: list[Held], sums: Tensor | None, *, failed: bool) -> list[tuple[list[str], Tensor, int]]:
        """The sums of squares over all ranks, a flag for failure, the other sums: one reduction in double precision."""
        names = [held.name for held in present]
        squares = torch.zeros(len(names), dtype=torch.float64, device=self._device)
        if not failed:
            try:
                for _, named, norms in _norms(present):
                    index, weights = self._places(present, named)
                    squares.index_add_(0, index, norms.double().square() * weights)
            except Exception:
                failed = True
        flag = torch.full((1,), float(failed), dtype=torch.float64, device=self._device)
        extra = [flag, sums.to(flag)] if sums is not None else [flag]
        packed = torch.cat([squares, *extra])
        dist.all_reduce(packed)
        return [(names, packed, sum(e.numel() for e in extra))]

    def _places(self, present: list[Held], named: list[str]) -> tuple[Tensor, Tensor]:
        """(place in the vector, weight) of each of `named`; made once, since a copy to a device may wait for it."""
        key = tuple(held.name for held in present), tuple(named)
        if key not in self._placed:
            if len(self._placed) >= PLACES:
                self._placed.clear()
            at = {held.name: n for n, held in enumerate(present)}
            index = torch.tensor([at[name] for name in named], device=self._device)
            weights = [present[at[name]].weight for name in named]
            self._placed[key] = index, torch.tensor(weights, dtype=torch.float64, device=self._device)
        return self._placed[key]

    def count(self, suspects: Sequence[Held]) -> list[tuple[int, int, float]]:
        """(NaN elements, infinite elements, norm in double precision) of the gradients as they are now. Waits for the device."""
        rows = []
        for held in suspects:
            gradient = held.parameter.grad
            try:
                local = held.local(gradient if gradient is not None else held.parameter[:0])
                rows.append([float(local.isnan().sum()), float(local.isinf().sum()), _wide_norm(local)])
            except Exception:
                if not self.sharded:
                    raise
                rows.append([0.0, 0.0, math.nan])  # the other ranks wait for us in the reduction
        if self.sharded:
            table = torch.tensor(rows, dtype=torch.float64, device=self._device)
            table[:, 2].square_()
            table *= torch.tensor([[held.weight] for held in suspects], dtype=torch.float64, device=self._device)
            dist.all_reduce(table)
            table[:, 2].sqrt_()
            rows = table.tolist()
        return [(round(nans), round(infs), norm) for nans, infs, norm in rows]


class Travelling:
    """Numbers of one device on their way to the host: direct on a CPU, else by pinned memory and an event."""

    def __init__(self, packed: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if packed.device.type == "cuda":
            self._host = torch.empty(packed.shape, dtype=packed.dtype, device="cpu", pin_memory=True)
            self._host.copy_(packed, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(packed.device))
            self._device = packed  # kept until it is copied
        else:
            self._host = packed

    def ready(self) -> bool:
        return self._event is None or bool(self._event.query())

    def read(self) -> list[float]:
        """The numbers; waits if they are not here yet."""
        if self._event is not None:
            self._event.synchronize()
        return list(self._host.tolist())


class _Vector(Travelling):
    """The packed vector of one device: norms of `names` (or their squares), `sums`, and what else is to be read."""

    def __init__(self, names: list[str], packed: Tensor, sums: int, *, squared: bool, scaled: bool) -> None:
        super().__init__(packed)
        self.names, self.sums, self.squared, self.scaled = names, sums, squared, scaled


def measure_gradients(model: nn.Module) -> Gradients:
    """What the gradients of `model` are now, read at once. For a model measured again and again make a GradientMeter."""
    return GradientMeter(model).measure()


def _norms(present: Sequence[Held]) -> Iterator[tuple[torch.device, list[str], Tensor]]:
    """(device, whose they are, norms of gradients or of parts of them), in single precision or better."""
    groups: dict[tuple[torch.device, torch.dtype, bool], tuple[list[str], list[Tensor]]] = {}
    for held in present:
        gradient = held.parameter.grad
        if gradient is not None:
            local = held.local(gradient)
            device, kind = local.device, torch.float64 if local.dtype == torch.float64 else torch.float32
            for part, in_rows in in_parts(local):
                names, parts = groups.setdefault((device, kind, in_rows), ([], []))
                names.append(held.name)
                parts.append(part)
    for (device, kind, in_rows), (names, parts) in groups.items():
        yield device, names, torch.stack(norms_of(parts, kind, in_rows=in_rows))


def in_parts(local: Tensor) -> tuple[tuple[Tensor, bool], ...]:
    """(part, is it a matrix of rows to be summed one by one?) of a tensor."""
    size = local.numel()
    if size <= ROW or local.device.type != "cpu" or local.dtype == torch.float64 or not local.is_contiguous():
        return ((local, False),)
    rest = size % ROW
    if not rest:
        return ((local.view(-1, ROW), True),)
    flat = local.view(-1)
    return (flat[:-rest].view(-1, ROW), True), (flat[-rest:], False)


def norms_of(parts: Sequence[Tensor], kind: torch.dtype, *, in_rows: bool) -> Sequence[Tensor]:
    """The norm of each part, summed in precision `kind`; the sums of rows are added up in double precision."""
    if in_rows:
        parts, kind = [torch.linalg.vector_norm(part, 2, 1, dtype=kind) for part in parts], torch.float64
    return torch._foreach_norm(parts, 2, dtype=kind)


def _faint_norms(suspects: Sequence[Held]) -> dict[str, float]:
    """Norms whose squares may be lost, in double precision; gradients of zeros are left out, told from others at one wait."""
    parts = {h.name: h.local(h.parameter.grad) for h in suspects if h.parameter.grad is not None}
    parts = {name: part for name, part in parts.items() if part.numel()}
    if not parts:
        return {}
    first = next(iter(parts.values())).device
    ends = torch.stack([torch.stack(torch.aminmax(part)).to(first, _wide(first)) for part in parts.values()])
    return {name: _wide_norm(part) for (name, part), end in zip(parts.items(), ends.tolist(), strict=True) if any(end)}


def _wide_norm(local: Tensor) -> float:
    """The norm in double precision, scaled by the largest element if squares leave even that; NaN or inf if the elements are."""
    wide = local.double()
    if not wide.numel():
        return 0.0
    norm = float(torch.linalg.vector_norm(wide))
    if SAFE < norm < math.inf or math.isnan(norm):
        return norm
    largest = float(wide.abs().amax())
    return largest * float(torch.linalg.vector_norm(wide / largest)) if 0 < largest < math.inf else largest


def _wide(device: torch.device) -> torch.dtype:
    """The best precision that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def _root_of_squares(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.nan if any(map(math.isnan, numbers)) else math.hypot(*numbers)


def _device_of(held: Sequence[Held]) -> torch.device:
    return held[0].local(held[0].parameter).device
