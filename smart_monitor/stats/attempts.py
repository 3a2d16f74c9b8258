"""Attempts: the parts of a run between two (re)starts, told apart from records that merely reorder.

A new attempt opens when the step or the epoch falls beyond a reordering tolerance, or when a word of
the writer's identity (pid, run_id, file) changes. Real logs repeat steps, log evaluation a little
late and count evaluation differently from training, so only rows that carry training metrics are
asked, and a fall must be larger than five usual step increments or reach back to the beginning.
"""

from __future__ import annotations

import math
from typing import Any

from smart_monitor.model import Record

TOLERANCE = 5.0
"""Usual step increments a record may come late before its step counts as a restart."""
PACE_MEMORY = 0.2
EPOCHS_BACK = 2.0


class Attempts:
    """Which attempt a record belongs to. State is a handful of numbers."""

    __slots__ = ("epoch_first", "epoch_top", "first", "ids", "last", "number", "pace", "records", "since", "top")

    def __init__(self) -> None:
        self.number = 1
        self.records = 0
        self.ids: dict[str, str] = {}
        self.since: float | None = None
        """Unix seconds at which the attempt was first seen; None in the first attempt."""
        self._reset()

    def _reset(self) -> None:
        self.first: int | None = None
        self.top: int | None = None
        self.last: int | None = None
        self.pace = 0.0
        self.epoch_first: float | None = None
        self.epoch_top: float | None = None

    def observe(self, record: Record, *, training: bool) -> str:
        """Fold in one record; the sentence why a new attempt opens with it, or an empty one."""
        why = self._changed_identity(record)
        if training and not why:
            why = self._fell(record)
        if why and self.records:
            self.number += 1
            self.records = 0
            self.since = record.seen
            self._reset()
        else:
            why = ""
        self.ids.update(record.ids)
        self.records += 1
        if training or self.top is None:
            self._advance(record)
        return why

    def _changed_identity(self, record: Record) -> str:
        for word, value in record.ids.items():
            known = self.ids.get(word)
            if known is not None and known != value:
                return f"{word} changed from {known} to {value}"
        return ""

    def _fell(self, record: Record) -> str:
        step, top = record.step, self.top
        if step is not None and top is not None and step < top and self.last is not None and step < self.last:
            beginning = self.first is not None and step <= self.first and top - step >= 2
            if beginning or top - step > max(TOLERANCE * self.pace, 1.0):
                return f"the step fell from {top} to {step}"
        epoch, highest = record.epoch, self.epoch_top
        if epoch is not None and highest is not None and self.epoch_first is not None and epoch < highest:
            fall = highest - epoch
            if fall >= EPOCHS_BACK or (epoch <= self.epoch_first and fall >= 1):
                return f"the epoch fell from {highest:g} to {epoch:g}"
        return ""

    def _advance(self, record: Record) -> None:
        step = record.step
        if step is not None:
            if self.first is None:
                self.first = step
            if self.last is not None and step > self.last:
                rise = float(step - self.last)
                self.pace += PACE_MEMORY * (rise - self.pace) if self.pace else rise
            self.last = step
            if self.top is None or step > self.top:
                self.top = step
        epoch = record.epoch
        if epoch is not None and math.isfinite(epoch):
            if self.epoch_first is None:
                self.epoch_first = epoch
            if self.epoch_top is None or epoch > self.epoch_top:
                self.epoch_top = epoch

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def restore(self, state: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, state[name])
        self.ids = dict(self.ids)
