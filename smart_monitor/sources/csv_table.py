"""Metrics as a table: Lightning's and Keras's CSVLogger, and whatever writes a header and rows (`,` `;` or tab).

An empty cell is "not given". Lightning writes training and evaluation as rows of their own, and when a new
metric appears it writes the whole file again with a longer header: the rows known already are checked
against a digest of what they say, not of their bytes, and reading goes on behind them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from smart_monitor.model import Record
from smart_monitor.names import clean, read_row, to_number
from smart_monitor.sources import Cursor, Format, Pass, record_of
from smart_monitor.sources.appended import AppendedFile, Place, text_lines
from smart_monitor.sources.files import shown

MAX_LINE = 1 << 20
MAX_COLUMNS = 4096
PATIENCE = 5.0
"""Seconds in which a file that is being written again must have grown to what it was; then it counts as another."""
_DELIMITERS = ",;\t"


class CsvTable(AppendedFile):
    """The rows of one table. `read` never raises."""

    rotates = False

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        known = cursor.get("inner", {}).get("known")
        if known and (final or not 0 <= now_mono - known.get("since", now_mono) < PATIENCE):
            cursor = {"turn": cursor["turn"] + 1}  # shorter than it was, and stays so: another table
        elif known and "since" not in known:
            cursor = cursor | {"inner": cursor["inner"] | {"known": known | {"since": now_mono}}}
        return super().read(cursor, now_wall, now_mono, final)

    def replaced(self, fd: int, place: Place, cursor: Cursor) -> Place:
        inner = place.inner
        known = inner.get("known") or {"rows": place.row, "chain": inner.get("chain", ""), "first": place.first}
        return Place(turn=place.turn, known=place.known, first=place.first, inner={"known": known})

    def decode(self, fd: int, place: Place, seen: float | None, final: bool) -> Iterator[list[Record]]:
        again = True
        while again:
            again = False
            for lines in text_lines(fd, place, final, MAX_LINE):
                place.begun(fd, named=False)
                found: list[Record] = []
                for line in lines:
                    again = self._line(line, place, seen, found)
                    if again:
                        place.say(f"{shown(self.path)} holds other rows than it did and is read from its beginning.")
                        place.offset, place.row, place.turn, place.first, place.inner = 0, 0, place.turn + 1, "", {}
                        break
                yield found
                if again:
                    break

    def _line(self, line: bytes, place: Place, seen: float | None, found: list[Record]) -> bool:
        """Take one line in; does it show that this is another table?"""
        text = line.decode("utf-8", "replace").strip("\r\n\ufeff\0 ")
        if not text:
            return False
        header = place.inner.get("header")
        if header is None:
            place.inner = {**place.inner, **_header(text)}
            if not any(place.inner["header"]):
                place.say("its first line is no header: columns without names cannot be used.")
            return False
        cells = _cells(text, place.inner["delimiter"])
        if _is_header(cells, header):
            place.inner = {**place.inner, "header": cells}
            return False
        index = place.row
        place.row = index + 1
        fits = len(cells) == len(header)
        row = {name: cell for name, cell in zip(header, cells, strict=True) if cell and name} if fits else {}
        if seen is not None or not place.first:
            place.inner = {**place.inner, "chain": _digest(place.inner.get("chain", ""), row)}
        if "known" in place.inner:
            return self._was_another(index, place)
        place.first = place.first or place.inner["chain"]
        if not fits:
            place.note(index, f"{len(cells)} cells under {len(header)} names, left out.")
        self._add(index, row, place, seen, found)
        return False

    @staticmethod
    def _was_another(index: int, place: Place) -> bool:
        """Check a row of a file that is written again: is it not the one that was known?"""
        known, chain = place.inner["known"], place.inner["chain"]
        if (not index and known["first"] != chain) or (index + 1 == known["rows"] and known["chain"] != chain):
            return True
        if index + 1 == known["rows"]:
            place.inner = {k: v for k, v in place.inner.items() if k != "known"}
        return False

    def _add(self, index: int, row: dict[str, str], place: Place, seen: float | None, found: list[Record]) -> None:
        reading = read_row(row)
        for oddity in reading.oddities:
            place.note(index, oddity)
        place.known = place.known or reading.recognised
        if reading.values or reading.nulls:
            found.append(record_of(self.run, self.name, index, reading, {"file": f"{place.first}.{place.turn}"}, seen))


def _header(text: str) -> dict[str, Any]:
    """The names of the columns and what parts them."""
    text = text.lstrip("# ")
    delimiter = max(_DELIMITERS, key=text.count)
    names = [clean(cell).strip() for cell in _cells(text, delimiter)]
    usable = len(names) <= MAX_COLUMNS and not all(to_number(n) is not None for n in names)
    return {"header": names if usable else [""] * len(names[:MAX_COLUMNS]), "delimiter": delimiter}


def _is_header(cells: list[str], header: list[str]) -> bool:
    """Does the line name columns anew, as where a second run was appended?"""
    return cells[0] in header and len(cells) > 1 and all(c and to_number(c) is None for c in cells) and len(cells) <= MAX_COLUMNS


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return [cell.strip() for cell in text.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return [cell.strip(' "') for cell in text.split(delimiter)]


def _digest(chain: str, row: dict[str, str]) -> str:
    """What all rows up to this one say, whatever the order and number of their columns."""
    said = "\x1f".join([chain, *(f"{name}\x1e{row[name]}" for name in sorted(row))])
    return blake2b(said.encode("utf-8", "replace"), digest_size=8).hexdigest()


FORMAT = Format(
    name="csv", title="a CSV table", patterns=("*.csv", "*.tsv"), order=30,
    open=lambda place, run, name, _: CsvTable(place, run, name), index="the row below the header, blank lines not counted",
    vague=True,
)  # fmt: skip
