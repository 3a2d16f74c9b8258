"""Hugging Face `trainer_state.json`: written with each checkpoint and at the end, and each time with the whole history.

Its `log_history` is cumulative, so only the rows behind those known already are records. The newest file
wins; where the files of a copied run are all of one age, the one that went furthest. After a resumption the
history is cut back to the checkpoint that was resumed from: what is common is known, the rest is new.

Two things it cannot tell. A step's loss: it logs means of `logging_steps` steps. And a NaN, while the
trainer's `logging_nan_inf_filter` is on (its default): a step whose loss is not finite is replaced by the mean
of the others, so that the loss in the log stays finite and only `grad_norm` beside it shows the NaN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.model import Record
from smart_monitor.names import clean, read_row
from smart_monitor.sources import Cursor, Format, Options, Pass, Sight, finished, record_of
from smart_monitor.sources.documents import Torn, document_bytes, look_again, parse_json, refused, too_large
from smart_monitor.sources.files import CannotSee, identity_of, must_be_regular, shown, why

FILE_NAME = "trainer_state.json"
REMEMBERED = 4096
"""Rows, the last ones known, among which the place where a history was cut back is found."""
MAX_CHECKPOINTS = 2000
_CHECKPOINT = re.compile(r"checkpoint-([0-9]{1,18})")
_DIGEST = 8


class _File(NamedTuple):
    path: str
    step: float
    """Of its checkpoint; infinite for the one that is written at the end."""
    identity: list[int]


class TrainerState:
    """The history of the run whose output directory is `base`; or of one file, if `base` is one. `read` never raises."""

    repeats = True

    def __init__(self, base: Path, run: str, name: str = "", max_bytes: int = 64 << 20) -> None:
        self.base = base
        self.run = run
        self.name = name or "trainer_state"
        self.max_bytes = max_bytes

    @property
    def paths(self) -> Sequence[str]:
        return (f"{self.base}/",)

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """The rows of the history that are not known yet; `now_wall` in unix seconds; `final` changes nothing."""
        try:
            files = self._files()
        except CannotSee as error:
            return Pass(cursor, Sight(False, str(error), str(self.base)))
        newest, furthest = files[0], max(files, key=lambda f: f.step)
        seen = [newest.identity, furthest.identity]
        if cursor.get("file") == seen:
            reason = cursor.get("why", "")
            return Pass(cursor, Sight(not reason, reason, newest.path))
        following = {k: v for k, v in cursor.items() if k not in ("torn", "why")}
        file = newest
        try:
            document = self._document(newest.path)
            if furthest.path != newest.path and _goes_on(document, further := self._document(furthest.path)):
                file, document = furthest, further
        except Torn as torn:
            return look_again(cursor, seen, newest.path, str(torn), now_mono)
        except CannotSee as error:
            return refused(following, seen, newest.path, str(error))
        following["file"] = seen
        result = Pass(following, Sight(True, "", file.path))
        self._add(document, result, now_wall)
        result.heartbeat = not result.records
        return result

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """Every row of the history. Raises CannotSee."""
        return finished(self, tell)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Where it stands after `count` records that reading on from `cursor` gave: they are passed over."""
        skip = cursor.get("skip", 0) + count
        return {k: v for k, v in cursor.items() if k != "file"} | {"skip": skip} if count else cursor

    def _files(self) -> list[_File]:
        """The files there are, the newest first. Raises CannotSee if there is none."""
        places = [(str(self.base), -1.0)]
        if os.path.isdir(self.base):
            places = [(str(self.base / FILE_NAME), float("inf"))]
            try:
                with os.scandir(self.base) as entries:
                    for entry, _ in zip(entries, range(MAX_CHECKPOINTS), strict=False):
                        if match := _CHECKPOINT.fullmatch(entry.name):
                            places.append((os.path.join(entry.path, FILE_NAME), float(match[1])))
            except OSError as error:
                raise CannotSee(why(str(self.base), error)) from None
        found, trouble = [], ""
        for path, step in places:
            try:
                status = os.stat(path)
                must_be_regular(path, status)
                found.append((status.st_mtime_ns, _File(path, step, identity_of(status))))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                trouble = why(path, error)
            except CannotSee as error:
                trouble = str(error)
        if not found:
            raise CannotSee(trouble or f"There is no {FILE_NAME} in {shown(str(self.base))} or its checkpoints yet.")
        return [file for _, file in sorted(found, key=lambda f: (f[0], f[1].step), reverse=True)]

    def _document(self, path: str) -> dict[str, Any]:
        """The document with its history. Raises Torn, CannotSee."""
        raw, found = document_bytes(path, self.max_bytes)
        if raw is None:
            raise CannotSee(too_large(path, found.st_size, self.max_bytes))
        document = parse_json(raw, path)
        if not isinstance(document, dict) or not isinstance(document.get("log_history"), list):
            raise CannotSee(f"{shown(path)} holds no log_history.")
        return document

    def _add(self, document: dict[str, Any], result: Pass, now_wall: float) -> None:
        """Add the rows that are not known, and move the cursor on."""
        cursor, rows = result.cursor, document["log_history"]
        known, remembered = cursor.get("rows", 0), cursor.get("digests", "")
        digests = [_digest(row) for row in rows]
        oldest = known - len(remembered) // _DIGEST
        common = oldest
        for place, (start, end) in enumerate(pairwise(range(0, len(remembered) + 1, _DIGEST)), oldest):
            if place >= len(digests) or digests[place] != remembered[start:end]:
                break
            common = place + 1
        oddities: list[str] = []
        for index in range(common, len(rows)):
            self._row(index, rows[index], document, result.records, oddities, now_wall)
        if common < len(rows) or not known:
            cursor |= {"rows": len(rows), "digests": "".join(digests[-REMEMBERED:])}
        if skip := cursor.pop("skip", 0):
            del result.records[:skip]
        result.oddities, result.odd = tuple(oddities[:8]), len(oddities)

    def _row(
        self, index: int, row: Any, document: dict[str, Any], records: list[Record], oddities: list[str], now_wall: float
    ) -> None:
        if not isinstance(row, dict):
            oddities.append(f"row {index}: no JSON object, left out.")
            return
        reading = read_row(row, f"row {index}")
        oddities += reading.oddities
        if not reading.values and not reading.nulls:
            return
        if reading.total is None and reading.by == "step":
            reading = reading._replace(total=read_row({"step": 0, "max_steps": document.get("max_steps")}).total)
        records.append(record_of(self.run, self.name, index, reading, {}, now_wall))


def _goes_on(document: dict[str, Any], further: dict[str, Any]) -> bool:
    """Does the history of `further` begin with that of `document`?"""
    rows = document["log_history"]
    return len(further["log_history"]) >= len(rows) and bool(repr(further["log_history"][: len(rows)]) == repr(rows))


def _digest(row: Any) -> str:
    return blake2b(repr(row).encode("utf-8", "replace"), digest_size=_DIGEST // 2).hexdigest()


def _output_directory(path: Path) -> Path:
    """The output directory of the trainer that wrote a file."""
    return path.parent.parent if _CHECKPOINT.fullmatch(path.parent.name) else path.parent


def _open(base: Path, run: str, name: str, options: Options) -> TrainerState:
    return TrainerState(base, run, clean(name), 4 * options.max_bytes)


FORMAT = Format(
    # Behind the status file: what comes with checkpoints only must not take the loss from what tells of every step.
    name="trainer_state", title="the history in trainer_state.json", patterns=(FILE_NAME,), order=85, open=_open,
    place=_output_directory, index="the place in log_history",
    late="trainer_state.json is written only with a checkpoint, so alarms come that late: let the trainer also log to "
    'TensorBoard (report_to="tensorboard") or to JSON lines.',
)  # fmt: skip
