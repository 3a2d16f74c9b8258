"""`Probe`: measures a step between backward and optimiser, without waiting for a device or a disk, and records it."""

from __future__ import annotations

import atexit
import logging
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smart_monitor.probe.capture import Capture, Limits, rng_state
from smart_monitor.probe.gradients import Gradients, Pending, Travelling
from smart_monitor.probe.loggers import Loggers
from smart_monitor.probe.measuring import Measuring, sentence
from smart_monitor.probe.records import (
    Layers,
    Spread,
    Usual,
    batch_size_of,
    gradient_figures,
    learning_rates,
    memory_figures,
    without_infinities,
)
from smart_monitor.probe.rewards import RewardPairs
from smart_monitor.probe.scaling import loss_scale
from smart_monitor.probe.schedule import Schedule
from smart_monitor.probe.writer import RecordWriter

LAG = 2
"""Measurements of a sharded model are read so many later, by every rank: then all act on the same ones."""
RING = 4
"""Measurements on their way from a device at once; while it is that far behind nothing more is measured."""
SKIPS = 5
"""Steps in a row that a loss scaler may skip before its infinities count as trouble."""
COPY = "a copy measures nothing: a probe is made in the process that trains"

_log = logging.getLogger("smart_monitor.probe")


@dataclass(slots=True)
class _Step:
    """A step whose figures are on their way."""

    step: int
    record: dict[str, Any]
    pending: Pending
    parts: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    scaled: bool = False
    batch: Any = None
    rng: Mapping[str, Tensor] | None = None


class Probe:
    """Records what happens in a training loop; the file is the only thing it shares with the monitor.

    model: as it is trained (wrapped, compiled, sharded or plain). optimizer: for its learning rates.
    directory: the run's; records go to `probe_rank_R.jsonl` in it, anomalies to `anomalies/`.
    schedule: every how many steps what is measured. scaler: a torch.amp.GradScaler, if one is used.
    loggers: W&B runs, TensorBoard writers, anything with `.log(dict)`. status: keep
    `status/training_status.json` as well. exact: compare gradients and weights whole (None: small models).
    in_backward: the optimiser steps inside of backward, where gradients never outlive it; make the probe before it.
    capture: limits of what is kept of a step that is not finite; None: nothing.
    every_rank: gradients are recorded by every rank; else by the first, since they are the same on all.

    Raises CannotMeasure (a ValueError) for a model that it cannot measure. `step` never raises: at an error the probe
    switches itself off (`on`), says why once (`trouble`, the log, the file), and training goes on.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        directory: str | os.PathLike[str] = ".",
        *,
        schedule: Schedule | None = None,
        scaler: Any = None,
        loggers: Sequence[Any] = (),
        status: bool = False,
        exact: bool | None = None,
        in_backward: bool = False,
        capture: Limits | None = Limits(),  # noqa: B008  # frozen
        rank: int | None = None,
        every_rank: bool = False,
    ) -> None:
        self.on, self.trouble, self.steps = True, "", 0
        self.last: dict[str, Any] = {}
        """The record written last."""
        self.unmeasured = 0
        """Steps that were not measured because the device is too far behind."""
        self.directory, self.schedule, self.scaler, self.optimizer = Path(directory), schedule or Schedule(), scaler, optimizer
        self.rank = _rank() if rank is None else rank
        self._meters = Measuring(
            model, self.schedule, exact=exact, in_backward=in_backward, rank=self.rank, every_rank=every_rank
        )
        self._records = self.rank == 0 or every_rank
        self._layers, self._usual, self._spread = Layers(self._meters.names), Usual(), Spread(self._meters.names)
        self._loggers = Loggers(loggers if self.rank == 0 else ())
        self._capture = Capture(self.directory, self.rank, capture) if capture is not None else None
        self.writer = RecordWriter(
            self.directory / f"probe_rank_{self.rank}.jsonl",
            status=self.directory / "status" / "training_status.json" if status and self.rank == 0 else None,
        )
        self.writer.begin()
        self._pending: deque[_Step] = deque()
        self._pairs = RewardPairs()
        self._margins: Travelling | None = None
        self._losses: list[Tensor | float] = []
        self._ended, self._skipped, self._bad, self._hinted = 0.0, 0, False, False
        self._rng: Mapping[str, Tensor] | None = None
        self._hook: Any = None
        if self._capture is not None and not hasattr(model, "_orig_mod"):  # a hook would be traced into a compiled model
            self._hook = model.register_forward_pre_hook(_BeforeForward(self))
        atexit.register(_close, weakref.ref(self))  # runs before the end of the writer, which was registered sooner

    # -- what a training loop calls -----------------------------------------------------------------

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def step(
        self,
        loss: Tensor | float | None = None,
        *,
        step: int | None = None,
        batch: Any = None,
        batch_size: int | None = None,
        epoch: float | None = None,
        total: int | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Measure one step, between `backward()` (the last one, when accumulating) and `optimizer.step()`.

        loss: a scalar, or None if `add_loss` was given those of the micro-batches. step: its number, counted from 1 if
        not given. batch: kept if the step turns out not finite. metrics: numbers to be recorded beside.
        """
        if not self.on or _capturing():
            return
        try:
            self.steps = self.steps + 1 if step is None else int(step)
            if self._meters.outdated():
                self._begin_anew()
            worth = self._meters.plan(self.steps)
            record: dict[str, Any] = {"step": self.steps, "rank": self.rank, "time": round(time.time(), 3), "pid": os.getpid()}
            given = {
                "total_steps": total,
                "epoch": epoch,
                "batch_size": batch_size_of(batch) if batch_size is None else batch_size,
            }
            record |= {name: value for name, value in given.items() if value is not None}
            record |= {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
            with torch.no_grad():
                self._step(loss, batch, record, worth=worth)
        except Exception as error:
            self._fail(error)

    def add_loss(self, loss: Tensor | float) -> None:
        """The loss of one of several micro-batches; the step's is their mean."""
        if self.on and len(self._losses) < 10_000:
            self._losses.append(loss.detach() if isinstance(loss, Tensor) else loss)

    def pairs(self, chosen: Tensor, rejected: Tensor) -> None:
        """Rewards of the chosen and the rejected answers of one batch, in order: their calibration is recorded."""
        if self.on:
            try:
                self._pairs.add(chosen, rejected)
            except Exception as error:
                self._fail(error)

    def flush(self, timeout: float = 2.0) -> bool:
        """Read what is on its way and wait for the disk, for `timeout` seconds at most; is everything there?"""
        try:
            while self._pending and self.on:
                self._finish(self._pending.popleft())
        except Exception as error:
            self._fail(error)
        return self.writer.flush(timeout)

    def close(self) -> None:
        """Flush and end; done by itself at the end of the process."""
        self.flush()
        self.writer.close()
        if self._capture is not None:
            self._capture.close()
        if self._hook is not None:
            self._hook.remove()
        self.on = False

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, of a module that holds its probe, measures nothing: averaged weights are not trained."""
        kept = {k: vars(self)[k] for k in ("steps", "unmeasured", "directory", "schedule", "rank", "writer")}
        return kept | {"on": False, "trouble": COPY, "last": {}, "_pending": deque(), "_capture": None, "_hook": None}

    # -- measuring ----------------------------------------------------------------------------------

    def _step(self, loss: Tensor | float | None, batch: Any, record: dict[str, Any], *, worth: bool) -> None:
        self._read()
        now, meters = time.perf_counter(), self._meters
        if self._ended:
            record |= {"step_time": now - self._ended, "steps_per_second": 1 / max(now - self._ended, 1e-9)}
        self._ended = now
        losses, self._losses = self._losses, []
        if not worth:
            return
        if loss is None and losses:
            loss = sum(losses[1:], losses[0]) / len(losses)
        if not isinstance(loss, Tensor) and loss is not None:
            record["loss"] = float(loss)
        record |= learning_rates(self.optimizer)
        if self.schedule.due("memory", self.steps):
            record |= memory_figures(meters.device)
        record |= self._calibration()
        own = {"loss": _plain(loss).mean()} if isinstance(loss, Tensor) else {}
        parts = meters.measure(own)
        if len(self._pending) >= RING:
            self.unmeasured += 1
            return
        scale = loss_scale(self.scaler, self.optimizer)
        pending = meters.start(parts, own, scale.remaining)
        step = _Step(self.steps, record, pending, tuple(meters.parts), tuple(own), scale.in_use)
        if self._capture is not None:
            step.batch, step.rng = batch, self._rng
        self._pending.append(step)
        if not meters.late:
            self._read()

    def _begin_anew(self) -> None:
        """The model has or trains other parameters than before."""
        while self._pending:
            self._finish(self._pending.popleft())
        self._meters.begin()
        self._layers.name(self._meters.names)
        self._spread = Spread(self._meters.names)

    # -- recording ----------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in what has come from the device. In a sharded model every rank reads the same at the same step."""
        while self._pending and (len(self._pending) >= LAG if self._meters.sharded else self._pending[0].pending.ready()):
            self._finish(self._pending.popleft())

    def _finish(self, step: _Step) -> None:
        """The record of a step whose figures are there."""
        gradients = step.pending.result(here=self._meters.here)
        if step.pending.failed:
            raise _Stopped(self._meters.failed or "another rank cannot measure any more")
        if self._meters.failed:
            return
        record, own = step.record, dict(zip(step.own, step.pending.own, strict=False))
        if "loss" in own:
            record["loss"] = own["loss"]
        bad = not math.isfinite(record.get("loss", 0.0))
        if self._meters.measures:
            skipped = self._skips(gradients, step)
            bad = bad or (not skipped and not math.isfinite(gradients.total))
            if self._records:
                record |= self._figures(step, gradients, own, skipped=skipped)
        if self.writer.dropped:
            record["probe_dropped"] = self.writer.dropped
        if self.unmeasured:
            record["probe_unmeasured"] = self.unmeasured
        self.last = record
        self.writer.write(record)
        self._loggers.log(record)
        if bad and not self._bad:
            self._keep(step, record, gradients)
        self._bad = bad

    def _figures(self, step: _Step, gradients: Gradients, own: Mapping[str, float], *, skipped: bool) -> dict[str, Any]:
        if not gradients.norms:
            if not self._hinted:
                _log.warning(
                    "The probe sees no gradient: call step() between backward() and zero_grad(), for the model that learns;"
                    " if the optimiser steps inside of backward, make the probe with in_backward=True."
                )
            self._hinted = True
            return {"absent_layers": len(gradients.absent), "frozen_layers": len(gradients.frozen)}
        due = self.schedule.due("layers", step.step)
        found = gradient_figures(gradients, self._layers, self._usual, all_layers=due)
        self._spread.look(gradients)
        if self.schedule.due("spread", step.step):
            found |= self._spread.figures()
        if skipped:
            found = without_infinities(found) | {"amp_skipped": 1}
        return found | self._meters.figures(step.parts, step.pending.sums, own, gradients, self._layers)

    def _calibration(self) -> dict[str, float]:
        """Figures of the reward pairs that have come to the host; the next ones are sent on their way."""
        found: dict[str, float] = {}
        if self._margins is not None and self._margins.ready():
            found = self._pairs.figures(torch.tensor(self._margins.read(), dtype=torch.float64, device="cpu"))
            self._margins = None
        if self._margins is None and self.schedule.due("pairs", self.steps):
            margins = self._pairs.taken()
            self._margins = Travelling(margins) if margins is not None else None
        return found

    def _keep(self, step: _Step, record: Mapping[str, Any], gradients: Gradients) -> None:
        """Keep what is needed to run a step again that was not finite."""
        if self._capture is None:
            return
        loss = record.get("loss")
        only_inf = (gradients.has_inf or math.isinf(loss or 0.0)) and not gradients.has_nan
        self._capture.save(
            step.step, loss=loss, grad_norm=gradients.total, batch=step.batch, record=record, rng=step.rng,
            reason="inf" if only_inf else "nan",
        )  # fmt: skip

    def _skips(self, gradients: Gradients, step: _Step) -> bool:
        """Does the loss scaler skip this step, as it does now and then while it looks for its scale?"""
        if not step.scaled or math.isfinite(gradients.total):
            self._skipped = 0
            return False
        self._skipped += 1
        return self._skipped < SKIPS

    def before_forward(self) -> None:
        """Remember the random numbers that the model is about to use."""
        if self.on and not _capturing():
            try:
                self._rng = rng_state()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Off, and said once. In a sharded model only once the others know, for they wait for us in the reduction."""
        self.trouble, meters = self.trouble or sentence(error), self._meters
        if meters.sharded and not isinstance(error, _Stopped):
            meters.failed = meters.failed or self.trouble
            try:
                if not meters.started:
                    self._pending.append(_Step(self.steps, {}, meters.take_part()))
                return
            except Exception as worse:
                self.trouble = f"{self.trouble}; {sentence(worse)}"
        self.on = False
        self._pending.clear()
        _log.warning("The probe has switched itself off (%s). Training goes on.", self.trouble)
        try:
            self.writer.write({"probe_off": self.trouble, "rank": self.rank, "pid": os.getpid()})
        except Exception:  # it may be the writer that broke: the log has said it
            _log.debug("The probe's file does not say so.", exc_info=True)


class _BeforeForward:
    """The hook of a model; a copy of the model, or one that was saved, has an empty one."""

    def __init__(self, probe: Probe | None = None) -> None:
        self._probe = weakref.ref(probe) if probe is not None else None

    def __call__(self, module: nn.Module, _: Any) -> None:
        probe = self._probe() if self._probe is not None else None
        if probe is not None and module.training:
            probe.before_forward()

    def __reduce__(self) -> tuple[type[_BeforeForward], tuple[()]]:
        return _BeforeForward, ()


def _close(probe: weakref.ref[Probe]) -> None:
    found = probe()
    if found is not None:
        found.close()


class _Stopped(Exception):
    """Some rank cannot measure any more, and all know."""


def _plain(loss: Tensor) -> Tensor:
    """A loss that a mean can be taken of: those that count something are integers."""
    return loss.detach() if loss.is_floating_point() else loss.detach().float()


def _capturing() -> bool:
    """Is a CUDA graph being recorded? What runs then is not a step, and nothing of ours belongs into the graph."""
    return torch.cuda.is_available() and torch.cuda.is_initialized() and bool(torch.cuda.is_current_stream_capturing())


def _rank() -> int:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    given = os.environ.get("RANK", "0")
    return int(given) if given.isdigit() else 0
