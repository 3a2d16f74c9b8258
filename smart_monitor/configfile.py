"""Where settings come from: flags, the environment, the daemon's file and the run's `smart_monitor.toml`."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smart_monitor.config import GROUPS, KEYS, ConfigError, Settings, resolve
from smart_monitor.registry import rule_classes

_FOREIGN = stat.S_IWGRP | stat.S_IWOTH
RUN_FILE = "smart_monitor.toml"
PREFIX = "SMART_MONITOR_"
MAX_BYTES = 1 << 20


def load(
    run: Path | None, flags: Mapping[str, Any], config: Path | None, environment: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """Settings and the origin of each: flag > SMART_MONITOR_* > `config` > RUN/smart_monitor.toml > default.

    Raises ConfigError with one sentence for anything that can't be used.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if run is not None and os.path.lexists(run / RUN_FILE):
        layers.append((str(run / RUN_FILE), read(run / RUN_FILE)))
    if config is not None:
        layers.append((str(config), read(config)))
    layers.append(("environment", from_environment(environment)))
    layers.append(("command line", dict(flags)))
    settings, origin = resolve(layers)
    known = rule_classes()
    for kind in settings.disabled_rules:
        if kind not in known:
            near = difflib.get_close_matches(kind, known, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{origin['disabled_rules']}: disabled_rules: there is no rule {kind!r}{hint}")
    return settings, origin


def read(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, tables [judging], [watching], [keeping] and [retention] flattened."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path} is not a file")
            if found.st_size > MAX_BYTES:
                raise ConfigError(f"{path} is larger than a configuration can be")
            document = tomllib.loads(file.read(MAX_BYTES).decode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if key in GROUPS and isinstance(value, dict):
            flat |= value
        else:
            flat[key] = value
    guarded = [key for key in flat if key in KEYS and KEYS[key].metadata["guarded"]]
    if guarded and (found.st_uid not in (os.geteuid(), 0) or found.st_mode & _FOREIGN):
        raise ConfigError(f"{path}: {guarded[0]} is honoured only from a file of our own that nobody else can write (chmod go-w)")
    return flat


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings named SMART_MONITOR_<KEY>. Raises ConfigError for an unknown one, naming the nearest."""
    found = {k[len(PREFIX) :].lower(): v for k, v in environment.items() if k.startswith(PREFIX)}
    for key in found:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1, 0.5)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigError(f"environment: {PREFIX}{key.upper()} is no setting{hint}")
    return found


def example() -> str:
    """A `smart_monitor.toml` with every setting at its default, commented out and explained."""
    lines = ["# Smart Monitor: settings of this run. What is commented out is the default.", ""]
    for group in GROUPS:
        lines.append(f"# {group}")
        for name, setting in KEYS.items():
            if setting.metadata["group"] == group:
                default = setting.default_factory() if callable(setting.default_factory) else setting.default
                lines += [f"# {setting.metadata['why']}", f"# {name} = {toml(default)}"]
        lines.append("")
    lines += ["# Thresholds by phase: the first phase whose until_step is not over holds.", "# [[phase]]", "# until_step = 5000"]
    lines += ["# loss_spike_threshold = 0.5", ""]
    return "\n".join(lines)


def toml(value: Any) -> str:
    """A setting's value as it is written in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{v}"' for v in value) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml(v)}" for key, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
