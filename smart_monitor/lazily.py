"""Packages whose names are imported when they are asked for: what they need is an extra, and its absence is one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(
    package: str, homes: Mapping[str, str], needs: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package` (PEP 562).

    homes: name -> the module that it lives in; needs: module that may be missing -> the sentence that says how to get it.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(homes[name]), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name not in needs:
                raise
            raise ImportError(needs[error.name]) from error

    def names() -> list[str]:
        own = vars(sys.modules[package])
        return [*own["__all__"], *(name for name in own if name.startswith("__"))]

    return get, names
