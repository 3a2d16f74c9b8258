"""Everything that a run's directory holds, followed as one source.

What lies there is looked for again and again, since files appear later: the events of the next start, the table
of a new version. Each file is read from a cursor of its own, and `Merging` says which of them a metric is judged
from. The status file is followed from the beginning, there or not: it is where a trainer says how it is.

While any of them has more than one look may take, nothing is given that stands beyond what it has reached, so
that a long history is told in order. After that, records are given as they come.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.config import Settings
from smart_monitor.discovery import Found, Seen, Verdicts, find
from smart_monitor.following.part import Part, described, entry_of
from smart_monitor.merging import Merging
from smart_monitor.model import RECORD, Record
from smart_monitor.names import clean
from smart_monitor.sources import Cursor, Options, Pass, Sight, finished
from smart_monitor.sources.files import shown

REST = 1000.0
"""Seconds that the search for files rests for each second of CPU that it took."""
EAGER = 2.0
"""Seconds between two searches at most while nothing was found that gave a value."""
GONE = 10.0
"""Seconds without sight of a source after which others may give its metrics."""
SILENT = 120.0
"""Seconds without a record after which a source does not keep its metrics from one that goes on behind it."""
OF_BEFORE = 600.0
"""Seconds behind the newest after which a source that is first met is trusted last: it is of an earlier start."""
MAX_LEFT = 64
"""Places no longer read whose cursors are kept, should they be written again."""
MAX_ODDITIES = 8
WRITTEN = "training_status.json, JSON lines, TensorBoard events, CSV, trainer_state.json …"


class _Wanted(NamedTuple):
    """What the settings say about reading."""

    only: str
    options: Options
    every: float
    """Seconds between two searches for files."""

    @staticmethod
    def of(settings: Settings) -> _Wanted:
        return _Wanted(settings.source, options_of(settings), settings.poll_interval)


def options_of(settings: Settings) -> Options:
    """How files are to be read by these settings."""
    return Options(int(settings.max_status_mb * 2**20), settings.log_patterns)


class RunSource:
    """What the directory `base` holds. `read` never raises; its records bear the names of the sources they come from.

    `settings.source`: a format or a place, to read nothing else; `final`: rows that may not be complete are taken, too, if
    nothing was written for a while; `rest`: see REST.
    """

    name = "run"
    repeats = False

    def __init__(self, base: Path, run: str, settings: Settings, *, final: bool = False, rest: float = REST) -> None:
        self.base, self.run = base, run
        self.paths: Sequence[str] = ()
        self._wanted = self._settings = _Wanted.of(settings)
        self._final, self._rest = final, rest
        self._cursor: Cursor | None = None
        self._parts: list[Part] = []
        self._left: list[dict[str, Any]] = []
        self._raw: bytes | None = None
        """What the trainer's status last said."""
        self._merging = Merging(())
        self._found: Found | None = None
        self._verdicts: Verdicts = {}
        self._looked = self._tired = 0.0
        self._sighted = Sight(False, "not looked yet", str(base))
        self._waiting: dict[str, dict[str, Any]] = {}
        """What was given before a crash by sources that are yet to be found."""
        self.paths = self._where()

    def configure(self, settings: Settings) -> None:
        """Go on with other settings. From any thread: they hold from the next look on."""
        self._wanted = _Wanted.of(settings)

    def unmoved(self, cursor: Cursor, now_mono: float) -> bool:
        """As most looks end: is it too soon to search again, and was nothing written since the last look?"""
        return (
            cursor is self._cursor
            and self._sighted.ok
            and self._wanted == self._settings
            and not self._is_search_due(now_mono)
            and all(part.unmoved(now_mono) for part in self._parts)
        )

    def taken_up(
        self, cursor: Cursor, last: Mapping[str, Mapping[str, Record]], counts: Mapping[str, Mapping[str, int]]
    ) -> Cursor:  # fmt: skip
        """Where it stands after what was given since `cursor` was saved, which is not given again. Opens nothing.

        By source: its last record and state (the later one behind), and how many there were of each file (`ids["file"]`).
        """
        if not last:
            return cursor
        self._restore(cursor, 0.0)
        if "merging" not in cursor:  # the state is lost: the last lines of the journal tell who gave what
            for record in sorted((kinds[RECORD] for kinds in last.values() if RECORD in kinds), key=lambda r: r.step or 0):
                self._merging.remember(record)
        parts = {p.name: p for p in self._parts}
        for name, kinds in last.items():
            records, given = list(kinds.values()), counts.get(name, {})
            if name in parts:
                parts[name].take_up(records, given)
            else:
                waits = self._waiting.get(name, {"counts": {}})
                sums = {file: given.get(file, 0) + waits["counts"].get(file, 0) for file in {*given, *waits["counts"]}}
                self._waiting[name] = {"counts": sums, "step": records[-1].step, "time": records[-1].time}
        self._cursor = None
        return self._state()

    def read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool = False) -> Pass:
        """Look once. `retry_in` is 0 while there is more; `torn` while what was first met is not known whole."""
        if cursor is not self._cursor:
            self._restore(cursor, now_mono)
        try:
            return self._read(cursor, now_wall, now_mono, final)
        except BaseException:
            self._cursor = None  # what was read and not given is read again
            raise

    def _read(self, cursor: Cursor, now_wall: float, now_mono: float, final: bool) -> Pass:
        if self._wanted != self._settings:
            self._settings, self._found, self._verdicts = self._wanted, None, {}
            self._reopen()
        seen = Pass(cursor, Sight(True, "", str(self.base)))
        changed = self._search(seen, now_wall, now_mono)
        changed |= self._look(self._parts, seen, now_wall, now_mono, final)
        if any(p.ahead and not p.rows for p in self._parts):
            # Training has begun: what else it writes is to be there before the first value of any is judged.
            known = list(self._parts)
            changed |= self._search(seen, now_wall, now_mono, at_once=True)
            changed |= self._look([p for p in self._parts if p not in known], seen, now_wall, now_mono, final)
        if self._sighted.ok and not changed and all(p.rests for p in self._parts):
            seen.sight = self._sighted  # nothing was written since the last one
            return seen
        changed |= self._release(seen, now_mono)
        given = self._give(seen, now_mono)
        seen.heartbeat = (seen.heartbeat or given) and not seen.records
        seen.sight = self._sighted = self._sight()
        if changed or given:
            self._cursor = seen.cursor = self._state()
            self.paths = self._where()
        return seen

    @property
    def summary(self) -> tuple[dict[str, Any], ...]:
        """What is read, how much of it was seen, and how old it is: plain JSON, for `status`. From any thread."""
        return tuple([part.told() for part in self._parts if part.sight.ok or part.rows])

    def whole(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """Everything that stands there, for replay. Raises CannotSee."""
        return finished(self, tell)

    def resumed(self, cursor: Cursor, last: Sequence[Record], count: int) -> Cursor:
        """Nothing changes: what was given is told by `taken_up`, source by source."""
        return cursor

    # -- what is read -----------------------------------------------------------------------------

    def _restore(self, cursor: Cursor, now_mono: float) -> None:
        """Stand where `cursor` does."""
        self._cursor = cursor
        self._waiting = dict(cursor.get("waiting", {}))
        entries = cursor.get("sources", [])
        self._left = [e for e in entries if e.get("left")]
        self._parts = []
        for entry in entries:
            seen = described(self.base, entry)
            if seen is not None and not entry.get("left"):
                self._begin(seen, entry, now_mono)
        self._keep_status(now_mono)
        self._order(cursor.get("merging"))
        self._found = None

    def _keep_status(self, now_mono: float) -> None:
        """The status file is followed unless something else was asked for."""
        only = self._settings[0]
        if only in ("", "status") and not any(p.name == "status" for p in self._parts):
            seen = described(self.base, {"format": "status", "place": "", "rank": None})
            if seen is not None:
                self._begin(seen, self._known(seen) or entry_of("status", seen, self.base), now_mono)

    def _begin(self, seen: Seen, entry: dict[str, Any], now_mono: float, age: float = 0.0) -> None:
        options = self._settings[1]
        part = Part(seen, entry, seen.open(self.run, entry["name"], options), now_mono - age)
        if (waits := self._waiting.pop(part.name, None)) is not None:
            part.take_up([Record(self.run, part.name, -1, step=waits["step"], time=waits["time"])], waits["counts"])
        self._parts.append(part)

    def _reopen(self) -> None:
        """The same parts under other options."""
        only, options, _ = self._settings
        for part in self._parts:
            part.use(part.seen.open(self.run, part.name, options))
        if only:
            self._parts = [p for p in self._parts if p.name != "status" or only == "status"]

    def _order(self, state: Mapping[str, Any] | None) -> None:
        self._parts.sort(key=Part.trust)
        self._merging = Merging([p.name for p in self._parts], state)
        self.paths = self._where()

    def _where(self) -> Sequence[str]:
        return [path for part in self._parts for path in part.source.paths]

    def _search(self, seen: Pass, now_wall: float, now_mono: float, *, at_once: bool = False) -> bool:
        """Look for files, if it is time or `at_once`; did that change what is read?"""
        only, options, _ = self._settings
        if not at_once and not self._is_search_due(now_mono):
            return False
        self._looked = now_mono
        if self._found is not None and not self._found.moved_on():
            return False
        began = time.thread_time()
        first = self._found is None
        followed = {p.seen.place for p in self._parts}
        found = self._found = find(self.base, only=only, options=options, followed=followed, verdicts=self._verdicts)
        taken = time.thread_time() - began
        changed, news = self._choose(found, now_wall, now_mono)
        if first and (changed or len(self._parts) > 1 or found.others):
            news = found.sentences()
        seen.news += tuple(news)
        self._tired = self._rest * taken
        return changed

    def _is_search_due(self, now_mono: float) -> bool:
        begun = self._sighted.ok and any(part.rows for part in self._parts)
        every = self._settings.every if begun else min(self._settings.every, EAGER)
        return self._found is None or not 0 <= now_mono - self._looked < max(every, self._tired)

    def _choose(self, found: Found, now_wall: float, now_mono: float) -> tuple[bool, list[str]]:
        """Take up what was chosen and let go what something newer took the place of; (did that change anything, sentences)."""
        news: list[str] = []
        reading = {p.key: p for p in self._parts}
        fresh = [s for s in found.chosen if (s.format.name, s.place) not in reading]
        for seen in found.chosen:
            if (part := reading.get((seen.format.name, seen.place))) is not None:
                part.seen = seen
        whys = {(s.format.name, s.place): s.why for s in found.others}
        gone = [p for p in self._parts if p.key in whys and not (p.name == "status" and not self._settings[0])]
        for part in gone:
            self._parts.remove(part)
            self._left = [*self._left, part.state() | {"left": True}][-MAX_LEFT:]
            if not any(s.format is part.seen.format for s in fresh):
                self._merging.release(part.name, anew=True)
            news.append(f"No longer reads {found.shown(part.seen)}: {whys[part.key]}.")
        newest = max((s.written for s in found.chosen), default=0.0)
        for seen in fresh:
            entry = self._known(seen) or entry_of(self._name(seen), seen, self.base)
            entry["late"] = self._cursor == {} and seen.written < newest - OF_BEFORE
            self._begin(seen, entry, now_mono, max(0.0, now_wall - seen.written))
        news += found.told("From now on reads", fresh)
        if fresh or gone:
            self._order(self._merging.state())
        return bool(fresh or gone), news

    def _known(self, seen: Seen) -> dict[str, Any] | None:
        """The entry of a place that was read before."""
        for entry in self._left:
            if described(self.base, entry) is not None and (entry["format"], self.base / entry["place"]) == (
                seen.format.name,
                seen.place,
            ):
                self._left = [e for e in self._left if e is not entry]
                taken = {p.name for p in self._parts}
                return {k: v for k, v in entry.items() if k != "left"} | (
                    {"name": self._name(seen)} if entry["name"] in taken else {}
                )
        return None

    def _name(self, seen: Seen) -> str:
        """What its records say they come from: the format, told apart where there are several of one."""
        taken = {p.name for p in self._parts}
        name = seen.format.name if seen.rank is None else f"{seen.format.name} rank {seen.rank}"
        return name if name not in taken else f"{name} {Found(self.base).shown(seen)}"

    # -- one look ---------------------------------------------------------------------------------

    def _look(self, parts: Sequence[Part], seen: Pass, now_wall: float, now_mono: float, final: bool) -> bool:
        """Look at those of which nothing waits; has any moved on?"""
        changed = False
        for part in parts:
            if part.ahead or not part.due(now_mono):
                continue
            inner = part.look(now_wall, now_mono, final or (self._final and now_wall - part.seen.written > GONE))
            seen.odd += inner.odd
            seen.oddities += inner.oddities[: MAX_ODDITIES - len(seen.oddities)]
            seen.heartbeat |= inner.heartbeat
            changed |= part.moved
        return changed

    def _release(self, seen: Pass, now_mono: float) -> bool:
        """Let others give the metrics of a source that can't be seen for a while."""
        changed = False
        for part in self._parts:
            if part.unseen(now_mono) > GONE and not part.released and part.rows:
                part.released = changed = True
                self._merging.release(part.name)
                if any(p.sight.ok for p in self._parts):
                    seen.news += (f"{part.name} can't be seen ({part.sight.why.rstrip('.')}); others may give its metrics.",)
        return changed

    def _give(self, seen: Pass, now_mono: float) -> bool:
        """Add what stands before all that is not read yet; was anything taken, judged or not?"""
        horizon, givers, retries = float("inf"), [], []
        for part in self._parts:
            if part.ahead:
                givers.append(part)
            if part.retry is not None:
                retries.append(part.retry)
                horizon = min(horizon, part.reached) if part.more else horizon
            seen.torn |= part.torn
        if givers and len(self._parts) > 1:
            self._unseat(givers, now_mono)
        taken = False
        given = [p.give(at, horizon) for at, p in enumerate(givers)]
        for _, at, record, raw in heapq.merge(*given, key=lambda g: g[:2]) if len(given) > 1 else chain(*given):
            part = givers[at]
            taken = True
            part.heard = now_mono
            judged = self._merging.share(record).judged
            self._raw = self._raw if raw is None else raw
            if judged is None or part.was_given(judged):
                continue
            if raw is not None:
                seen.raws[len(seen.records)] = raw
            seen.records.append(judged)
        if self._raw is not None:  # evidence also of what a log says
            seen.raws = dict.fromkeys(range(len(seen.records)), self._raw) | seen.raws
        left = [p for p in givers if p.ahead]
        seen.retry_in = 0.0 if left else min(retries, default=None)
        return taken

    def _unseat(self, givers: Sequence[Part], now_mono: float) -> None:
        """A source that says nothing for long does not keep its metrics from one that goes on."""
        for part in self._parts:
            silent = now_mono - part.heard
            if part in givers or silent < SILENT or not part.rows:
                continue
            later = [r.step for giver in givers for _, r, _, _ in giver.ahead if r.kind == RECORD and r.step is not None]
            if later and part.last is not None and max(later) > part.last:
                self._merging.release(part.name)
            elif silent > OF_BEFORE:
                self._merging.release(part.name, anew=True)

    def _sight(self) -> Sight:
        """The sight of the most trusted that can be seen; else that of the most trusted.

        A file that never said anything is no sight once another one has.
        """
        spoke = any(p.rows for p in self._parts)
        good = next((p.sight for p in self._parts if p.sight.ok and (p.rows or not spoke)), None)
        if good is not None:
            return good
        tried = next((p for p in self._parts if p.rows or p.name != "status" or any(map(os.path.lexists, p.source.paths))), None)
        if tried is not None:
            return tried.sight
        what = f"no {clean(only, 80)}" if (only := self._settings[0]) else f"nothing that a trainer writes ({WRITTEN})"
        return Sight(False, f"There is {what} in {shown(str(self.base))} yet.", str(self.base))

    def _state(self) -> Cursor:
        state: Cursor = {"sources": [p.state() for p in self._parts] + self._left, "merging": self._merging.state()}
        return state | ({"waiting": dict(self._waiting)} if self._waiting else {})
