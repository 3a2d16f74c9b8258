"""The outlook: what a run's monitor can see, since when it can't, and saying so without repeating itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smart_monitor.daemon.eye import Eye
from smart_monitor.daemon.log import Log
from smart_monitor.model import RECORD
from smart_monitor.sources import Pass, Sight

HUNG = 10.0
"""Seconds after which a read that has not returned makes its run blind."""
LATE = 2.0
"""Seconds after which it is suspected of that, and nothing else is looked at there."""
REPEAT = 60.0
"""Seconds between two lines about the same trouble in other words."""
OFTEN = 10
"""Lines about sight within that time at most."""


class Outlook:
    """Sight of one run. Monotonic seconds."""

    def __init__(self, log: Log, base: Path) -> None:
        self._log, self._base = log, base
        self.sight = Sight(False, "not looked yet", str(base))
        self._eye: Eye | None = None
        self._seen = self.sight
        self._ever = False
        self._hung = False
        self._said = self._told_ok = False
        self._when = -REPEAT
        self._times: deque[float] = deque(maxlen=OFTEN)
        self._beat = self._since = time.monotonic()
        self._step: float | None = None
        self._lost: tuple[str, float] | None = None
        """The source that values came from and that can't be seen, and since when."""

    def begin(self, eye: Eye) -> None:
        """Another eye looks from now on."""
        self._eye, self._hung = eye, False

    def see(self, seen: Pass) -> bool:
        """Take in one pass; True if what can be seen changed."""
        now = time.monotonic()
        if seen.heartbeat or seen.records:
            self._beat = now
        if any(r.kind == RECORD for r in seen.records):
            self._step = now
        for sentence in seen.news:
            self._log.info(sentence)
        self._seen, self._hung = seen.sight, False
        return seen.sight != self.sight and self._become(seen.sight, now)

    def lose(self, why: str) -> None:
        """The place is gone, or not there yet; who knows why has said so."""
        self._become(Sight(False, why, str(self._base)), time.monotonic(), silent=True)

    def check(self, now: float) -> bool:
        """Has a read hung, or come back? True if that changed what can be seen."""
        assert self._eye is not None
        silent = now - self._eye.last_pass
        if silent > HUNG and not self._hung:
            self._hung = True
            return self._become(Sight(False, f"a read of {self._base} does not return (a hung mount?)", str(self._base)), now)
        if self._hung and silent <= HUNG:
            self._hung = False
            return self._become(self._seen, now)
        if self._said and self.sight.ok != self._told_ok:
            self._say(now)
        return False

    @property
    def hung(self) -> bool:
        return self._hung

    def is_late(self, now: float) -> bool:
        """May the run's directory hang just now?"""
        return self._eye is not None and now - self._eye.last_pass > LATE

    def figures(self, now: float, told: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], str]:
        """For the tick: seconds since the trainer last wrote and since the last record, since when we are blind, or see
        only a part (of `told`, see `Part.told`); and why.
        """
        found = {"heartbeat_age": round(now - self._beat, 1)}
        if self._step is not None:
            found["record_age"] = round(now - self._step, 1)
        part = next((t for t in told if t["records"] and not t["ok"]), None)
        if part is None:
            self._lost = None
        elif self._lost is None or self._lost[0] != part["name"]:
            self._lost = part["name"], now
        if not self.sight.ok:
            return found | {"blind": round(now - self._since, 1)}, self.sight.why
        if part is None or self._lost is None or (self._step is not None and self._step > self._lost[1]):
            return found, ""
        return found | {"source_lost": round(now - self._lost[1], 1)}, f"{part['name']} ({part['why'].rstrip('.')})"

    def _become(self, sight: Sight, now: float, *, silent: bool = False) -> bool:
        was, self.sight = self.sight, sight
        if was == sight:
            return False
        if was.ok and not sight.ok:
            self._since = now
        if not silent:
            self._say(now)
        self._ever = self._ever or sight.ok
        return True

    def _say(self, now: float) -> None:
        if self._said and self.sight.ok == self._told_ok and (self.sight.ok or now - self._when < REPEAT):
            return
        if len(self._times) == self._times.maxlen and now - self._times[0] < REPEAT:
            return  # it comes and goes; `check` says how it stands when that is over
        self._times.append(now)
        if self.sight.ok:
            self._log.info(f"Reads {self.sight.path}" + (" again" if self._ever else ""))
        elif self._ever:
            self._log.warning(f"Can't see: {self.sight.why}")
        else:
            self._log.info(f"Nothing to read yet: {self.sight.why}")
        self._said, self._told_ok, self._when = True, self.sight.ok, now
