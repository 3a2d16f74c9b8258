"""Values of settings, checked one by one: each a value that can be used, or a ConfigError that says why not. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be used; its text is one sentence for the user."""


_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^/]*)@)?[^@]*")
_SECRET = re.compile(
    r"(?i)^key$|secret|passw|token|credential|signature|connection_string|access_?key|account_?key|customer_?key"
)


def address(value: Any, where: str) -> str:
    """A URL without credentials; what is refused is not repeated, for it may hold some."""
    if isinstance(value, str) and value.startswith("/"):
        value = f"file://{value}"
    if value == "":
        return ""
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) and value.isprintable() else None
    if found is None or set(value) & set(" ?#*[]") or "::" in value:
        raise ConfigError(f"{where}: remote must be a URL such as s3://bucket/prefix, gs://bucket/prefix or file:///directory")
    if found["scheme"] in ("file", "local") and not value.partition("://")[2].strip("/"):
        raise ConfigError(f"{where}: remote must name a directory, as in file:///mnt/backup; {value} is the root of the disk")
    user = found["user"]
    if user is not None and (":" in user or found["scheme"] not in ("sftp", "ssh")):
        raise ConfigError(
            f"{where}: remote must not hold credentials; they belong in the environment or in the service's own file (~/.aws …)"
        )
    return str(value).rstrip("/") if not value.endswith("://") else str(value)


def options(value: Any, where: str) -> dict[str, Any]:
    """A table without credentials."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: remote_options must be a table")
    for key, inner in value.items():
        if _SECRET.search(str(key)) or (isinstance(inner, str) and re.search(r"://[^/]*@", inner)):
            raise ConfigError(
                f"{where}: remote_options.{key} must not hold credentials; they belong in the environment or in the service's "
                "own file (~/.aws …)"
            )
        if isinstance(inner, Mapping):
            options(inner, where)
    return dict(value)


def source(value: Any, where: str) -> str:
    """The name of a format or of a file; whether there is such a one depends on the run."""
    if not isinstance(value, str) or not (value == "" or value.isprintable()) or len(value) > 4096:
        raise ConfigError(f"{where}: source must be the name of a format or of a file")
    return value


def boolean(key: str, value: Any, where: str) -> bool:
    """A truth value, also from a word for one."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ConfigError(f"{where}: {key} must be true or false, not {value!r}")
    return found


def number(key: str, value: Any, where: str, want: type) -> float:
    """A finite number of the type `want`, also from text."""
    try:
        if isinstance(value, bool):
            raise ValueError
        found = float(value)
        if not math.isfinite(found) or (want is int and found != int(found)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if want is int else "a number"
        raise ConfigError(f"{where}: {key} must be {kind}, not {value!r}") from None
    return int(found) if want is int else found
