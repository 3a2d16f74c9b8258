"""First contact with a run: what stood there already is history, folded and not announced."""

from __future__ import annotations

from collections.abc import Sequence

from smart_monitor.daemon.log import Log
from smart_monitor.judge import Judge
from smart_monitor.model import Record
from smart_monitor.sources import Pass


class Contact:
    """Counts what stood there. `met`: it was all taken in, be it long ago; `whole`: it is to be judged as if it were new."""

    def __init__(self, *, met: bool, whole: bool) -> None:
        self.met = met
        self.current = False
        """Was all read that stood there at this start?"""
        self._whole = whole
        self._count = 0
        self._ends: tuple[Record, ...] = ()
        """The first and the last of them."""

    def begin(self, *, met: bool) -> None:
        """A start, or a new beginning: the first look is yet to come."""
        self.met |= met
        self.current = False

    @property
    def historical(self) -> bool:
        """Is what comes now history?"""
        return not self.met and not self._whole

    def over(self, seen: Pass, records: Sequence[Record], log: Log) -> bool:
        """Is first contact over with this pass, which gave `records`? Then the log says what stood there.

        What is torn or not read to its end was not met: the rest of it is still what stood there.
        """
        if self.historical and records:
            self._count += len(records)
            self._ends = (self._ends or records)[0], records[-1]
        if seen.torn or seen.retry_in == 0.0:
            return False
        self.current = True
        if self.met:
            return False
        self.met = True
        if self._count:
            log.info(f"Caught up: {self._count} record{'s' * (self._count != 1)} stood there already{_between(*self._ends)}")
        return True


def _between(first: Record, last: Record) -> str:
    """Which steps these are, or, where rows tell fractions of epochs only, which epochs; empty if they tell neither."""
    for unit, begins, ends in (("step", first.step, last.step), ("epoch", first.epoch, last.epoch)):
        if begins is not None and ends is not None:
            return f" ({unit} {ends:.15g})" if first is last else f" ({unit}s {begins:.15g}–{ends:.15g})"
    return ""


def hole(record: Record, judge: Judge | None) -> tuple[int, str]:
    """(steps, sentence) about what passed unseen before the first record after a start; (0, "") if nothing did.

    Files that are only appended to have no hole: whatever passed meanwhile stands there.
    """
    if record.source != "status" or judge is None or judge.attempts.last is None or record.step is None:
        return 0, ""
    last, pace = judge.attempts.last, judge.attempts.pace
    if not pace or record.step - last <= 1.5 * pace:
        return 0, ""
    return record.step - last - 1, f"Not seen: what passed between step {last} and step {record.step} while the monitor was down"
