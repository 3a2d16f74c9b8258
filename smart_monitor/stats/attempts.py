"""Attempts: the parts of a run between two (re)starts, told apart from records that merely reorder.

A new attempt opens when the step or the epoch falls beyond a reordering tolerance, or when a word of
the writer's identity (pid, run_id, file) changes. Real logs repeat steps, log evaluation a little
late and count evaluation differently from training, so only training rows are asked, each source and
each counter (step, epoch, episode) is compared with itself alone, and a fall must be larger than five
usual step increments or reach back to the beginning.

Some logs count nothing: their rows carry a loss and at most their own number, so that nothing falls where a second
training is appended (the folds of a cross-validation). There the curve alone can tell: it is back where it began.
"""

from __future__ import annotations

from typing import Any

from smart_monitor.model import Record
from smart_monitor.stats.baseline import Baseline
from smart_monitor.stats.strictness import LEARNED

TOLERANCE = 5.0
"""Usual step increments a record may come late before its step counts as a restart."""
PACE_MEMORY = 0.2
EPOCHS_BACK = 2.0
MAX_TRACKS = 16
"""Counters told apart at most: sources x what they count."""
AGAIN = 0.05
"""By how much, relatively, a second training's first loss may differ from the first's."""
RETRACED = "back where training began"
ONE_VALUE = "status"
"""The source that a trainer overwrites: nothing is appended to it."""


class Track:
    """How far one counter of one source has come in the attempt."""

    __slots__ = ("epoch_first", "epoch_top", "first", "last", "pace", "top")

    def __init__(self) -> None:
        self.first: int | None = None
        self.top: int | None = None
        self.last: int | None = None
        self.pace = 0.0
        self.epoch_first: float | None = None
        self.epoch_top: float | None = None

    def fell(self, step: int | None, epoch: float | None) -> str:
        """The sentence why this is a restart; empty if it goes on, or only comes late."""
        top = self.top
        if step is not None and top is not None and step < top and self.last is not None and step < self.last:
            beginning = self.first is not None and step <= self.first and top - step >= 2
            if beginning or top - step > max(TOLERANCE * self.pace, 1.0):
                return f"the step fell from {top} to {step}"
        highest = self.epoch_top
        if epoch is not None and highest is not None and self.epoch_first is not None and epoch < highest:
            fall = highest - epoch
            if fall >= EPOCHS_BACK or (epoch <= self.epoch_first and fall >= 1):
                return f"the epoch fell from {highest:g} to {epoch:g}"
        return ""

    def advance(self, step: int | None, epoch: float | None) -> None:
        if step is not None:
            last, top = self.last, self.top
            if last is None or top is None:
                self.first = self.top = step
            else:
                if step > last:
                    rise = float(step - last)
                    self.pace += PACE_MEMORY * (rise - self.pace) if self.pace else rise
                if step > top:
                    self.top = step
            self.last = step
        if epoch is not None and epoch - epoch == 0:
            if self.epoch_first is None or self.epoch_top is None:
                self.epoch_first = self.epoch_top = epoch
            elif epoch > self.epoch_top:
                self.epoch_top = epoch


class Attempts:
    """Which attempt a record belongs to. State is a handful of numbers for each source."""

    __slots__ = ("began", "counted", "ids", "number", "records", "since", "track", "tracks", "trained")

    def __init__(self) -> None:
        self.number = 1
        self.records = 0
        self.ids: dict[str, dict[str, str]] = {}
        """Source -> its identity words."""
        self.since: float | None = None
        """Unix seconds at which the attempt was first seen; None in the first attempt."""
        self.trained = False
        """Has a row with a loss been seen in this attempt? Then rows without one are not asked."""
        self.tracks: dict[str, Track] = {}
        self.track = Track()
        """The counter of the last training row."""
        self.counted = False
        """Has a training row borne anything that goes on with the training, and would fall if another began?"""
        self.began: float | None = None
        """The very first loss, where nothing counts."""

    @property
    def last(self) -> int | None:
        """The last training step of the attempt."""
        return self.track.last

    @property
    def pace(self) -> float:
        """The usual increment of the training step."""
        return self.track.pace

    def asks(self, record: Record) -> bool:
        """Is this a training row: one with a loss, or any row of a run that has given none so far?"""
        return not self.trained or "loss" in record.values or "loss" in record.nulls

    def observe(self, record: Record, *, training: bool, loss: Baseline | None = None) -> str:
        """Fold in one record; the sentence why a new attempt opens with it, or an empty one. `loss`: what losses were so far."""
        why = ""
        if record.ids and (known := self.ids.get(record.source)) != record.ids:
            why = self._changed(known, record)
        if training and not self.trained and ("loss" in record.values or "loss" in record.nulls):
            # What came before may have counted something else.
            self.trained = True
            if self.records:
                self.tracks.clear()
        track = self._of(record) if training else None
        if track is not None and not why:
            why = track.fell(record.step, record.epoch)
        if training and not self.counted:
            self.counted = _counts(record)
            if not why and not self.counted and loss is not None:
                why = self._retraces(record.values.get("loss"), loss)
        if why and self.records:
            self._begin(record)
            track = self._of(record) if training else None
        else:
            why = ""
        self.records += 1
        if track is not None:
            self.track = track
            track.advance(record.step, record.epoch)
        return why

    def _retraces(self, loss: object, known: Baseline) -> str:
        """The sentence for a loss that leaps back to where the first of them stood; empty if it does not."""
        began = self.began
        if not isinstance(loss, float) or loss - loss != 0:
            return ""
        if began is None:
            self.began = loss
            return ""
        if not abs(loss - began) <= AGAIN * began or not 0 < known.level <= LEARNED * began or known.held:
            return ""
        if not known.mature or not known.stands_out(loss):
            return ""
        return f"the loss leaps to {loss:.4g}, {RETRACED} ({began:.4g}), in rows that count nothing of the trainer's own"

    def _of(self, record: Record) -> Track:
        key = f"{record.by} {record.source}"
        track = self.tracks.get(key)
        if track is None:
            if len(self.tracks) >= MAX_TRACKS:
                del self.tracks[next(iter(self.tracks))]
            track = self.tracks[key] = Track()
        return track

    def _changed(self, known: dict[str, str] | None, record: Record) -> str:
        """Learn the writer's words; the sentence for the one that differs from what was known."""
        if known is None:
            if len(self.ids) < MAX_TRACKS:
                self.ids[record.source] = dict(record.ids)
            return ""
        changed = [(w, known[w], v) for w, v in record.ids.items() if known.get(w, v) != v]
        known.update(record.ids)
        return f"{changed[0][0]} changed from {changed[0][1]} to {changed[0][2]}" if changed else ""

    def _begin(self, record: Record) -> None:
        self.number += 1
        self.records = 0
        self.since = record.seen
        self.trained = "loss" in record.values or "loss" in record.nulls
        self.tracks.clear()
        self.track = Track()
        # Another source's words are of the old process until it speaks again.
        self.ids = {record.source: dict(record.ids)} if record.ids else {}

    def state(self) -> dict[str, Any]:
        current = next((key for key, track in self.tracks.items() if track is self.track), None)
        return {
            "number": self.number, "records": self.records, "since": self.since, "trained": self.trained,
            "counted": self.counted, "began": self.began,
            "ids": {source: dict(words) for source, words in self.ids.items()}, "track": current,
            "tracks": {key: [getattr(track, name) for name in Track.__slots__] for key, track in self.tracks.items()},
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.number, self.records, self.since = state["number"], state["records"], state["since"]
        self.trained, self.counted, self.began = state["trained"], state.get("counted", True), state.get("began")
        self.ids = {source: dict(words) for source, words in state["ids"].items()}
        self.tracks = {}
        for key, numbers in state["tracks"].items():
            track = self.tracks[key] = Track()
            for name, number in zip(Track.__slots__, numbers, strict=True):
                setattr(track, name, number)
        current = state["track"]
        self.track = self.tracks[current] if current is not None else Track()


def _counts(record: Record) -> bool:
    """Does a row bear more than its own number: a step, an epoch, a time, a learning rate with its schedule?"""
    if record.source == ONE_VALUE or record.epoch is not None or record.time is not None or "learning_rate" in record.values:
        return True
    return record.step is not None and (record.by != "step" or record.step - record.index not in (0, 1))
