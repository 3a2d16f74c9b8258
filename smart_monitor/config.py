"""Every setting: its default, its bounds, what it is for; and how layers of settings become one.

Pure: where the layers come from (flags, environment, TOML files) is `configfile.py`'s business. A
layer is a flat mapping from key to value plus an optional list `phase`; the nearest layer wins, and
inside one layer an explicit key beats the preset it names.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from smart_monitor.checking import ConfigError as ConfigError
from smart_monitor.checking import address, boolean, number, options, source

PRESETS: dict[str, dict[str, float]] = {
    "sensitive": {"loss_spike_threshold": 0.1, "accuracy_drop_threshold": 5.0, "min_steps_between_saves": 250},
    "default": {"loss_spike_threshold": 0.3, "accuracy_drop_threshold": 10.0, "min_steps_between_saves": 500},
    "quiet": {"loss_spike_threshold": 0.5, "accuracy_drop_threshold": 20.0, "min_steps_between_saves": 1000},
}
"""The guide's three rows: conservative (more snapshots), moderate, aggressive (fewer)."""

RETENTION: dict[str, dict[str, float]] = {
    "guide": {"keep_days": 30.0, "keep_last": 3, "keep_bests": 0},
    "lean": {"keep_days": 7.0, "keep_last": 1, "keep_bests": 3},
    "everything": {"keep_days": 0.0, "keep_last": 3, "keep_bests": 0},
}
"""What is kept how long: the guide's clean-up (30 days, bests for ever), less, and all of it."""

_ROWS = {"preset": PRESETS, "keep": RETENTION}


STRATEGIES = ("ratio", "mad", "step")
"""Ways to tell a spike; those of the gradient norm have no ratio but their own two limits, which always apply."""


def _setting(default: Any, why: str, *, low: float = -math.inf, high: float = math.inf, group: str, guarded: bool = False) -> Any:
    """`guarded`: it sends data elsewhere or starts things, so a file that others can write has no say in it."""
    found = {"why": why, "low": low, "high": high, "group": group, "guarded": guarded}
    if callable(default):
        return field(default_factory=default, metadata=found)
    return field(default=default, metadata=found)


def days_for(pairs: Iterable[str]) -> dict[str, float]:
    """`["loss_spike=7"]` as {"loss_spike": 7.0}. Raises ValueError for anything else."""
    found = {}
    for pair in pairs:
        kind, _, days = pair.partition("=")
        number = float(days)
        if not kind.strip() or not 0 <= number < math.inf:
            raise ValueError(pair)
        found[kind.strip()] = number
    return found


@dataclass(frozen=True, slots=True)
class Phase:
    """Thresholds that hold up to and including `until_step`; the first phase not yet over wins."""

    until_step: int
    overrides: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run. The field's metadata is the documentation (`config show`, `init`)."""

    preset: str = _setting("default", "sensitive, default or quiet: a row of thresholds", group="judging")
    loss_spike_threshold: float = _setting(
        0.3, "a loss this far above the mean of the last half window is a spike (0.3 = 30 %)", low=0.0, group="judging"
    )
    accuracy_drop_threshold: float = _setting(
        10.0, "an accuracy this many points (0-100) below its recent mean is a drop", low=0.0, high=100.0, group="judging"
    )
    loss_window: int = _setting(
        10, "values looked back on; the mean takes the last half of them, divergence all", low=4, high=1000, group="judging"
    )
    noise_guard: bool = _setting(
        True, "a move counts only if it also stands out from the run's own noise; false gives the literal rules", group="judging"
    )
    spike_strategies: tuple[str, ...] = _setting(
        ("ratio",), "ways to tell a spike of loss or gradient norm: ratio, mad, step; the noise guard decides", group="judging"
    )
    mad_factor: float = _setting(
        2.0, "mad: a spike is this many x 1.4826 median absolute deviations above the median", low=0.0, group="judging"
    )
    mad_window: int = _setting(50, "mad: values that median and deviation are taken of", low=5, high=1000, group="judging")
    step_change: float = _setting(
        0.5, "step: a spike is this far above the value before it (0.5 = 50 %)", low=0.0, group="judging"
    )
    fixed_loss_threshold: float = _setting(
        0.0, "a loss above this is a spike, in place of mad; 0 = no fixed limit", low=0.0, group="judging"
    )
    fixed_grad_norm_threshold: float = _setting(
        0.0, "a gradient norm above this explodes, in place of mad; 0 = no fixed limit", low=0.0, group="judging"
    )
    gradient_explosion_threshold: float = _setting(
        10.0, "a gradient norm above this explodes, if it is also far above the run's own level", low=0.0, group="judging"
    )
    gradient_vanishing_threshold: float = _setting(
        1e-6, "a gradient norm below this vanishes, if it is also far below the run's own level", low=0.0, group="judging"
    )
    learning_rate_min: float = _setting(1e-8, "a learning rate below this trains nothing", low=0.0, group="judging")
    learning_rate_max: float = _setting(1.0, "a learning rate above this destroys what it trains", low=0.0, group="judging")
    learning_rate_change: float = _setting(
        0.3, "a learning rate that changes by more than this share (0.3 = 30 %) jumps, unless a schedule explains it", low=0.0,
        group="judging",
    )  # fmt: skip
    best_improvement: float = _setting(
        0.02, "a best model is better than the last announced one by more than this share", low=0.0, high=1.0, group="judging"
    )
    divergence_rising: float = _setting(
        0.8, "share of rising neighbours in the window from which a loss diverges", low=0.5, high=1.0, group="judging"
    )
    stall_after: float = _setting(
        300.0, "seconds without a record before a stall can be called, whatever the run's rhythm", low=1.0, group="judging"
    )
    stall_start: float = _setting(
        1800.0, "seconds that starting and the first step (it may be compiled) may take before a stall is called", low=1.0,
        group="judging",
    )  # fmt: skip
    memory_limit: float = _setting(
        90.0, "per cent of the host's, the container's or a GPU's memory above which its use is a finding", low=1.0, high=100.0,
        group="judging",
    )  # fmt: skip
    rank_lag_after: float = _setting(
        10.0, "seconds that a rank must be behind the others before it is said to lag", low=0.0, group="judging"
    )
    blind_after: float = _setting(
        30.0, "seconds of seeing nothing readable before the monitor calls itself blind", low=1.0, group="judging"
    )
    disabled_rules: tuple[str, ...] = _setting((), "names of rules that are not to run", group="judging")

    poll_interval: float = _setting(
        10.0, "seconds between scans and host figures; metrics are sampled at 0.5 s whatever it is", low=0.1, group="watching"
    )
    watchdog: bool = _setting(
        True, "let file-system events wake the monitor sooner; the 0.5 s stat works without", group="watching"
    )
    max_status_mb: float = _setting(16.0, "a status file larger than this (MiB) is not read", low=0.01, group="watching")
    source: str = _setting(
        "", "the format (jsonl, csv, tensorboard …) or the file to read, and nothing else; empty: what is found", group="watching"
    )
    log_patterns: tuple[str, ...] = _setting(
        (), "regular expressions for lines of text logs; their named groups are metrics: 'it (?P<step>\\d+) L=(?P<loss>\\S+)'",
        group="watching",
    )  # fmt: skip
    pid: int = _setting(
        0, "the trainer's process; 0 = the pid in what it writes, else whoever holds the files we follow open", low=0,
        group="watching",
    )  # fmt: skip
    network_quiet: float = _setting(
        5.0, "seconds a checkpoint's files must be still on a network file system (local: 1)", low=0.0, group="watching"
    )

    min_steps_between_saves: int = _setting(
        500,
        "steps between two snapshots of one rule; unset, a short run or an epoch counter asks for less",
        low=0,
        group="keeping",
    )
    min_free_gb: float = _setting(
        2.0, "GiB that must stay free after a copy, beside twice the largest checkpoint", low=0.0, group="keeping"
    )
    min_free_percent: float = _setting(
        2.0, "per cent of the file system that must stay free", low=0.0, high=100.0, group="keeping"
    )
    spare_checkpoints: float = _setting(
        2.0, "how many checkpoints of the largest size must still fit after a copy", low=0.0, group="keeping"
    )
    copy_rate_mb: float = _setting(0.0, "MiB a second at which the worker copies at most; 0 = no limit", low=0.0, group="keeping")
    give_way: bool = _setting(True, "copy at a quarter of the speed while other processes write much", group="keeping")
    copy_hang: float = _setting(
        120.0,
        "seconds without progress after which the copying process is ended and the copy tried again",
        low=5.0,
        group="keeping",
    )
    checkpoint_wait: float = _setting(
        30.0, "seconds to wait for a checkpoint that is still being written when no complete one exists", low=0.0, group="keeping"
    )
    hold_ring: int = _setting(
        3,
        "how many of the newest complete checkpoints are held against the trainer's rotation, beside the last good one",
        low=1,
        high=100,
        group="keeping",
    )
    stop_grace: float = _setting(
        20.0,
        "seconds that a copy under way may take after SIGTERM before it is abandoned (and done anew later)",
        low=0.0,
        group="keeping",
    )

    keep: str = _setting("guide", "guide, lean or everything: a row of the three settings below", group="retention")
    keep_days: float = _setting(30.0, "days that a snapshot is kept; 0 = for ever", low=0.0, group="retention")
    keep_last: int = _setting(3, "so many of each reason are kept, however old they are", low=0, group="retention")
    keep_bests: int = _setting(0, "so many best models are kept, however old they are; 0 = all of them", low=0, group="retention")
    keep_days_for: tuple[str, ...] = _setting(
        (), 'days for single reasons instead of keep_days, as in ["loss_spike=7", "nan=90"]', group="retention"
    )
    keep_total_gb: float = _setting(
        0.0, "GiB that all snapshots together may take, the oldest go first; 0 = no limit", low=0.0, group="retention"
    )
    prune: bool = _setting(
        True, "drop by itself what is not to be kept any more; false: only `snapshots prune` does", group="retention"
    )
    prune_hours: float = _setting(24.0, "hours between two looks for what is not to be kept", low=0.0001, group="retention")
    remote: str = _setting(
        "", "where finished snapshots are copied to as well: s3://bucket/prefix, gs://, file:///, any fsspec URL",
        group="copies", guarded=True,
    )  # fmt: skip
    remote_options: Mapping[str, Any] = _setting(
        dict, "options of the file system behind `remote`, as fsspec takes them; never credentials", group="copies", guarded=True
    )
    remote_rate_mb: float = _setting(
        0.0, "MiB a second at which remote copies are sent at most; 0 = no limit", low=0.0, group="copies"
    )
    remote_days: float = _setting(
        7.0, "days that a snapshot not yet copied to `remote` is kept from being pruned", low=0.0, group="copies"
    )
    remote_patience: float = _setting(
        3600.0, "seconds that remote copies may fail before that is a finding", low=0.0, group="copies"
    )

    phases: tuple[Phase, ...] = field(default=(), metadata={"why": "[[phase]] tables: thresholds by step", "group": "phase"})
    given: frozenset[str] = field(default=frozenset(), metadata={"why": "keys that a user set (not defaults)", "group": ""})

    def at(self, step: int | None) -> Settings:
        """The settings in force at `step`: the overrides of the first phase that is not over."""
        if not self.phases or step is None:
            return self
        for phase in self.phases:
            if step <= phase.until_step:
                return dataclasses.replace(self, given=self.given | set(phase.overrides), **phase.overrides)
        return self


KEYS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(Settings) if f.name not in ("phases", "given")}
GROUPS = tuple(dict.fromkeys(f.metadata["group"] for f in KEYS.values()))
"""The tables that settings may stand in."""
NOT_BY_STEP = ("preset", "disabled_rules", "loss_window", "noise_guard")
PHASE_KEYS = tuple(k for k, f in KEYS.items() if f.metadata["group"] in ("judging", "keeping") and k not in NOT_BY_STEP)
_TYPES = get_type_hints(Settings)


def resolve(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Settings, dict[str, str]]:
    """Fold layers, weakest first, into settings and a map from key to the name of its origin.

    Raises ConfigError for an unknown key (naming the nearest), a wrong type, a value out of bounds.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    phases: tuple[Phase, ...] = ()
    for name, layer in layers:
        for key in layer:
            if key != "phase" and key not in KEYS:
                raise ConfigError(_unknown(key, name, [*KEYS, "phase", *GROUPS]))
        for rows in _ROWS.keys() & layer.keys():
            row = _checked(rows, layer[rows], name)
            for key, value in _ROWS[rows][row].items():
                origin[key] = f"{name} ({rows} {row})"
                if row == "default":
                    values.pop(key, None)  # as if nobody had set it: then a short run asks for less
                else:
                    values[key] = _checked(key, value, name)
        for key, value in layer.items():
            if key == "phase":
                phases = _phases(value, name)
            else:
                values[key] = _checked(key, value, name)
                origin[key] = name
    settings = Settings(**values, phases=phases, given=frozenset(values))
    return settings, {k: origin.get(k, "default") for k in KEYS}


def _phases(value: Any, where: str) -> tuple[Phase, ...]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not all(isinstance(v, Mapping) for v in value):
        raise ConfigError(f"{where}: phase must be an array of tables: [[phase]]")
    found = []
    for table in value:
        rest = dict(table)
        until = rest.pop("until_step", None)
        if not isinstance(until, int) or isinstance(until, bool) or until < 0:
            raise ConfigError(f"{where}: every [[phase]] needs until_step, a whole number of steps")
        for key in rest:
            if key not in PHASE_KEYS:
                raise ConfigError(_unknown(key, f"{where} [[phase]]", ["until_step", *PHASE_KEYS]))
        found.append(Phase(until, {k: _checked(k, v, where) for k, v in rest.items()}))
    return tuple(sorted(found, key=lambda p: p.until_step))


def _unknown(key: str, where: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    return f"{where}: unknown setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _checked(key: str, value: Any, where: str) -> Any:
    want, meta = _TYPES[key], KEYS[key].metadata
    if want == tuple[str, ...]:
        parts = [p.strip() for p in value.split(",") if p.strip()] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not all(isinstance(p, str) for p in parts):
            raise ConfigError(f"{where}: {key} must be a list of names, not {value!r}")
        if key == "keep_days_for":
            _check_days(parts, where)
        if key == "spike_strategies":
            _check_strategies(parts, where)
        return tuple(parts)
    if want is bool:
        return boolean(key, value, where)
    if key == "remote":
        return address(value, where)
    if key == "remote_options":
        return options(value, where)
    if key == "source":
        return source(value, where)
    if want is str:
        if not isinstance(value, str) or value not in _ROWS[key]:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(_ROWS[key])}, not {value!r}")
        return value
    found = number(key, value, where, want)
    if not meta["low"] <= found <= meta["high"]:
        bounds = f"at least {meta['low']:g}" if meta["high"] == math.inf else f"between {meta['low']:g} and {meta['high']:g}"
        raise ConfigError(f"{where}: {key} must be {bounds}, not {value!r}")
    return found


def _check_strategies(names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in STRATEGIES:
            raise ConfigError(f"{where}: spike_strategies are {', '.join(STRATEGIES)}, not {name!r}")


def _check_days(pairs: Sequence[str], where: str) -> None:
    try:
        days_for(pairs)
    except ValueError:
        said = f'keep_days_for must name reasons and days, as in "loss_spike=7", not {list(pairs)!r}'
        raise ConfigError(f"{where}: {said}") from None
