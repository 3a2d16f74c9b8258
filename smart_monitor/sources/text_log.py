"""Plain text logs: what trainers print, behind time stamps, colours and progress bars.

Understood without being told: the dictionaries that Hugging Face prints (`{'loss': 0.5, 'epoch': 0.1}`) and lines
in which names stand before numbers (`step 100 | loss 2.31`, `iter 100: loss 2.3, time 12ms`, `Epoch 3/10 … loss=0.3`,
`iteration 100/ 5000 | lm loss: 2.3E+00 | grad norm: 1.2 |`). Other forms by patterns of the user's: regular
expressions whose named groups are the metrics.

A line counts only if it gives a metric of training and, unless it is such a dictionary, where training stands;
an epoch that stands on a line without metrics (`Epoch 3/10`) holds for those below it, else a progress bar tells
(`10/375 [00:13<08:00, loss=2.3]`), and an evaluation is of the step before it. A progress bar that repeats itself
gives one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smart_monitor.aliases import TRAINING_METRICS
from smart_monitor.model import Reading, Record
from smart_monitor.names import read_row
from smart_monitor.sources import Format, record_of
from smart_monitor.sources.appended import AppendedFile, Place, blocks
from smart_monitor.sources.marks import mark
from smart_monitor.sources.phrases import named_numbers
from smart_monitor.sources.positions import along, bar
from smart_monitor.sources.user_patterns import UserPatterns

MAX_LINE = 64 << 10
MAX_TEXT = 4096
"""Characters of a line that are looked at: its end, for a progress bar stands before what matters."""

_WORTH = re.compile(rb"loss|acc|reward|grad|perplex|ppl|epoch|learning|lr|nan", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;?]{0,32}[A-Za-z]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f]")
_STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\]?")
_DICTIONARY = re.compile(r"\{\s*['\"][^{}]*\}")
_PAIR = re.compile(r"""['"]([^'"]{1,120})['"]\s*:\s*(?:['"]([^'"]{0,64})['"]|([^,}\s]{1,64}))""")
_WRAPPED = ("np.float", "tensor(")
_HEADING = ("epoch", "total_epochs")
_EVALUATED = {"eval_loss", "eval_accuracy"}
_EPOCH_MEAN = re.compile(r"\|\s{0,4}train\s{0,4}\|")
"""What fairseq tells at the end of an epoch: the mean over it."""


class TextLog(AppendedFile):
    """The rows of one log. `read` never raises."""

    closes = True

    def __init__(self, path: Path, run: str, name: str = "", patterns: tuple[str, ...] = ()) -> None:
        super().__init__(path, run, name)
        self._patterns = UserPatterns(patterns)

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[list[Record]]:
        for block in blocks(fd, place, final, MAX_LINE, returns=True, closed=_is_whole if place.still else None):
            ids = place.begun(fd)
            found: list[Record] = []
            for line in (block or b"").split(b"\n"):
                if _WORTH.search(line) is None and not self._patterns:
                    continue
                reading = self._reading(line[-MAX_LINE:], place)
                if reading is not None:
                    self._add(reading, ids, place, seen, found)
            for sentence in self._patterns.troubles():
                place.say(sentence)
            yield found

    def _reading(self, line: bytes, place: Place) -> Reading | None:
        """What a line says; None if it is not about training."""
        text = _COLOURS.sub("", line.decode("utf-8", "replace"))[-MAX_TEXT:]
        row: dict[str, Any] = {}
        if self._patterns and (row := dict(self._patterns.match(text))):
            return read_row(row)
        if "train_inner" in text and "steps" not in place.inner:
            place.inner = {**place.inner, "steps": True}
        elif "steps" in place.inner and _EPOCH_MEAN.search(text[:80]) is not None:
            return None
        if "{" in text and (row := dictionary(text)):
            reading = read_row(row)
            return reading if _measures(reading) else None
        stamp = _STAMP.search(text[:80])
        row = named_numbers(text[stamp.end() :] if stamp else text)
        if not row:
            return None
        if stamp:
            row["timestamp"] = stamp.group(1).replace(",", ".")
        reading = read_row(row)
        if not _measures(reading):
            if "epoch" in row:
                place.inner = {**place.inner, "heading": {name: row[name] for name in _HEADING if name in row}}
            return None
        if reading.by == "row":
            reading = read_row(self._standing(reading, text, place) | row)
        if reading.by == "row":
            return None
        place.inner = {**place.inner, "at": {reading.by: reading.epoch if reading.by == "epoch" else reading.step}}
        return reading

    @staticmethod
    def _standing(reading: Reading, text: str, place: Place) -> dict[str, Any]:
        """Where training stands by what was said above a line, or by a progress bar."""
        inner = place.inner
        if "heading" in inner:
            return dict(inner["heading"])
        now = bar(text)
        if not TRAINING_METRICS.isdisjoint(reading.values) and _EVALUATED.issuperset(TRAINING_METRICS & reading.values.keys()):
            return dict(inner.get("at", {}))
        if now is None:
            return {}
        done, of, before = inner_bar = along(now, inner.get("bar", []))
        place.inner = {**inner, "bar": inner_bar}
        return {"step": before + done, **({"total_steps": of} if of and not before else {})}

    def _add(self, reading: Reading, ids: dict[str, str], place: Place, seen: float | None, found: list[Record]) -> None:
        if not (reading.values or reading.nulls) or not reading.recognised:
            return
        now = mark(reading)
        if place.inner.get("last") == now:
            return
        place.inner = {**place.inner, "last": now}
        place.known = True
        found.append(record_of(self.run, self.name, place.row, reading, ids, seen))
        place.row += 1


def _is_whole(line: bytes) -> bool:
    """Is it a progress bar or a dictionary to its end? What follows on either begins a new line, perhaps hours later."""
    text = _COLOURS.sub("", line[-MAX_TEXT:].decode("utf-8", "replace")).rstrip()
    return (text.endswith("]") and bar(text) is not None) or (text.endswith("}") and bool(dictionary(text)))


def dictionary(text: str) -> dict[str, Any]:
    """The last dictionary of names and numbers that is printed in `text`, Python's or JSON; {} if there is none."""
    found: dict[str, Any] = {}
    for printed in _DICTIONARY.finditer(text):
        row = {name: _plain(quoted or bare) for name, quoted, bare in _PAIR.findall(printed.group())}
        found = row or found
    return found


def _plain(word: str) -> Any:
    if word.startswith(_WRAPPED):
        word = word.partition("(")[2].rstrip(")")
    return None if word in ("None", "null") else {"True": True, "False": False}.get(word, word)


def _measures(reading: Reading) -> bool:
    """Does it give a figure of how training goes?"""
    given = {*reading.values, *reading.nulls} - {"learning_rate"}
    return not TRAINING_METRICS.isdisjoint(given) or any("loss" in name or "reward" in name for name in given)


FORMAT = Format(
    name="text", title="a text log", patterns=("*.log", "*.out", "*.err", "*.txt"), order=60,
    open=lambda place, run, name, options: TextLog(place, run, name, options.patterns),
    index="the line that gave metrics", last_resort=True, vague=True,
)  # fmt: skip
