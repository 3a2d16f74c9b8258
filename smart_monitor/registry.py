"""Finds the rules: ours by looking into the package, others' by their entry points. No list to edit."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import lru_cache
from importlib.metadata import entry_points

import smart_monitor.rules
from smart_monitor.rules import Rule

GROUP = "smart_monitor.rules"
"""The entry-point group of plug-ins: name = kind, value = module:class."""


@lru_cache(maxsize=1)
def rule_classes() -> dict[str, type[Rule]]:
    """Kind -> class, in alphabetical order; a plug-in cannot take the name of one of ours."""
    found: dict[str, type[Rule]] = {}
    for info in pkgutil.iter_modules(smart_monitor.rules.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{smart_monitor.rules.__name__}.{info.name}")
        [cls] = [c for c in vars(module).values() if _is_rule(c) and c.__module__ == module.__name__]
        cls.kind = info.name
        found[info.name] = cls
    for point in entry_points(group=GROUP):
        cls = point.load()
        if point.name not in found and _is_rule(cls):
            cls.kind = point.name
            found[point.name] = cls
    return dict(sorted(found.items()))


def _is_rule(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, Rule) and thing is not Rule


def documentation(kind: str) -> str:
    """The docstring of a rule, unindented."""
    return inspect.cleandoc(rule_classes()[kind].__doc__ or "")


def summary(kind: str) -> str:
    """The first line of a rule's docstring."""
    return documentation(kind).splitlines()[0]
