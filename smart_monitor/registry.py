"""Finds the rules: ours by looking into the package, others' by their entry points. No list to edit."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar

import smart_monitor.rules
from smart_monitor.model import RECORD
from smart_monitor.rules import Moment, Rule, Verdict

GROUP = "smart_monitor.rules"
"""The entry-point group of plug-ins: name = kind, value = module:class."""


class RuleError(RuntimeError):
    """A plug-in that could not be loaded; the text says why."""


class Unusable(Rule):
    """A plug-in that could not be loaded stands in its own place and says so at the first record."""

    severity = "info"
    listens = (RECORD,)
    why: ClassVar[str] = ""

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        raise RuleError(self.why)


@lru_cache(maxsize=1)
def rule_classes() -> dict[str, type[Rule]]:
    """Kind -> class, in alphabetical order."""
    found: dict[str, type[Rule]] = {}
    for info in pkgutil.iter_modules(smart_monitor.rules.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{smart_monitor.rules.__name__}.{info.name}")
        [cls] = [c for c in vars(module).values() if _is_rule(c) and c.__module__ == module.__name__]
        cls.kind = info.name
        found[info.name] = cls
    return dict(sorted((found | plug_ins(entry_points(group=GROUP), found)).items()))


def plug_ins(points: Iterable[EntryPoint], ours: Iterable[str] = ()) -> dict[str, type[Rule]]:
    """The rules behind entry points; one that fails to load is there as an `Unusable`, never an error.

    A plug-in cannot take the name of one of ours.
    """
    found: dict[str, type[Rule]] = {}
    for point in points:
        if point.name in ours:
            continue
        try:
            cls = point.load()
            if not _is_rule(cls):
                raise RuleError(f"{point.value} is no rule: it must be a class derived from smart_monitor.rules.Rule")
            # A class of its own, for two names may point at one class.
            cls = type(cls.__name__, (cls,), {"__doc__": cls.__doc__, "__module__": cls.__module__, "kind": point.name})
        except Exception as error:
            cls = unusable(point.name, f"could not be loaded from {point.value}: {type(error).__name__}: {error}")
        found[point.name] = cls
    return found


def unusable(kind: str, why: str) -> type[Rule]:
    """A stand-in for the rule `kind`, which says `why` there is none."""
    doc = f"A plug-in that cannot be used: {why}"
    return type("Unusable", (Unusable,), {"__doc__": doc, "kind": kind, "why": why})


def _is_rule(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Rule) and thing is not Rule


def documentation(kind: str) -> str:
    """The docstring of a rule, unindented."""
    return inspect.cleandoc(rule_classes()[kind].__doc__ or "")


def summary(kind: str) -> str:
    """The first line of a rule's docstring."""
    return (documentation(kind).splitlines() or [""])[0]
