"""Some of the engine's rules, with settings of their own, asked about values from this process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from smart_monitor.config import KEYS, Settings
from smart_monitor.engine import Engine
from smart_monitor.model import Finding, Record
from smart_monitor.registry import rule_classes

SOURCE = "in process"


class Panel:
    """One engine. A condition is told when it becomes true; with `repeat` at every record it is true of.

    `tuned`: kind -> constants of the rule that are other ones here.
    """

    def __init__(
        self,
        kinds: Iterable[str],
        settings: Settings,
        tuned: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        repeat: bool = False,
    ) -> None:
        kinds, tuned = list(kinds), dict(tuned or {})
        self._made_of = kinds, settings, tuned, repeat
        classes, rules = rule_classes(), {}
        for kind in kinds:
            cls = classes[kind]
            own = {"kind": kind, "__doc__": cls.__doc__, "__module__": cls.__module__, **tuned.get(kind, {})}
            rules[kind] = type(cls.__name__, (cls,), {**own, **({"rearm": 0} if repeat else {})})
        self._engine = Engine(SOURCE, settings, rules)
        self._asked = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _panel, self._made_of  # a copy (of a module that holds a detector, say) has seen nothing yet

    def judge(self, values: Mapping[str, float], step: int, *, total: int | None = None) -> list[Finding]:
        """Feed one record under canonical names (`names.py`); what the rules say about it."""
        record = Record(SOURCE, SOURCE, self._asked, step, time=time.time(), values=dict(values), total=total)
        self._asked += 1
        return list(self._engine.replay([record]))


def _panel(kinds: list[str], settings: Settings, tuned: dict[str, Mapping[str, Any]], repeat: bool) -> Panel:
    return Panel(kinds, settings, tuned, repeat=repeat)


def window_of(size: int) -> int:
    """A window as the settings can hold it."""
    bounds = KEYS["loss_window"].metadata
    return int(min(max(size, bounds["low"]), bounds["high"]))
