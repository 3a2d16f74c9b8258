"""What the keys of a trainer's row mean: aliases, numbers, states, clocks. Pure and total.

Trainers agree on nothing but JSON: `loss`, `train/loss`, `latest_metrics.loss` and `train_loss_step`
are one metric. `read_row` turns any mapping into a `Reading` under canonical names. It never raises
on what a file can hold: a value that can't be used is as if not given, and what is odd is said.

A row of seven keys has to cost about five microseconds (replay), so a key is classified once and
remembered: `aliases.FLAT` holds every spelling known at import, a bounded cache the ones met later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from smart_monitor.aliases import (
    CONTAINERS,
    EPISODE,
    EPOCH,
    FLAT,
    ITER,
    METRIC,
    METRICS,
    NOTE,
    OTHER,
    PARTS,
    PID,
    RANK,
    RUN,
    SKIP,
    STATE,
    STATES,
    STEP,
    SUMMARY_RANKS,
    TEXT,
    TIME,
    TOTAL,
    TOTAL_EPISODES,
    TOTAL_EPOCHS,
    TRAINING_METRICS,
    Entry,
)
from smart_monitor.model import Reading

MAX_METRICS = 512
"""Metrics kept of one row, canonical ones first."""
MAX_STEP = 2**53
"""The largest step: beyond it a float no longer counts by ones."""
_MAX_TEXT = 200
_MAX_CACHE = 4096
_MAX_ODDITIES = 8
_MAX_SHAPES, _MAX_SHAPE = 256, 64

_TEXTY = frozenset({
    "prompt", "answer", "name", "id", "ids", "file", "path", "version", "model", "message", "output", "text", "date", "host",
    "hostname", "commit", "hash", "seed", "device", "tag", "url", "title", "golden", "label", "example", "system", "uuid",
})  # fmt: skip


def clean(text: object, limit: int = _MAX_TEXT) -> str:
    """`text` for use inside a sentence or as a name: printable characters only, at most `limit`."""
    found = text if isinstance(text, str) else str(text)
    found = found[: limit + 1]
    if not found.isprintable():
        found = "".join(c if c.isprintable() else " " for c in found)
    return found if len(found) <= limit else found[: limit - 1] + "…"


def read_row(row: Mapping[str, Any], source: str = "") -> Reading:
    """Read one row or document, nested one level at most. Never raises on parsed JSON.

    `source` only begins the sentences in `oddities`.
    """
    return _as_usual(row) or _looked_at(row, source)


def _looked_at(row: Mapping[str, Any], source: str) -> Reading:
    """The reading of any row."""
    values: dict[str, float] = {}
    ranks: dict[str, int] = {}
    nulls: list[str] = []
    facts: list[tuple[int, int, str, Any]] = []
    _scan(row.items(), None, values, ranks, nulls, facts)
    if "loss" in ranks and ("train_runtime" in values or "train/train_runtime" in values) and ranks["loss"] in SUMMARY_RANKS:
        del values["loss"]  # the mean over the whole run, told once at its end
    if len(values) > MAX_METRICS:
        values = _fewer(values)
    got, oddities = _read_facts(facts, values, source)
    step, by, total = _position(got)
    ids = {}
    if PID in got:
        ids["pid"] = got[PID]
    if RUN in got:
        ids["run_id"] = got[RUN]
    state = got.get(STATE, "")
    epoch = got.get(EPOCH)
    if nulls:
        nulls = [n for n in dict.fromkeys(nulls) if n not in values]
    if step is not None or epoch is not None:
        recognised = bool(values or nulls or state or total is not None or TIME in got) or (by != "epoch" and epoch is not None)
    else:
        recognised = _about_training(values, nulls)
    return Reading(
        step, by, epoch, got.get(TIME), total, values, tuple(nulls), ids, state, got.get(NOTE, ""), recognised, oddities,
        got.get(RANK, 0),
    )  # fmt: skip


def _as_usual(row: Mapping[str, Any]) -> Reading | None:
    """The reading of a row of metrics with a step and perhaps an epoch, as nearly all are; None if it must be looked at.

    It says what the long way says, in a third of the time: a run's rows have the same few sets of keys.
    """
    keys: tuple[Any, ...] = tuple(row)
    names = _shapes.get(keys)
    if names is None:
        # What is monstrous is not remembered.
        if len(keys) > _MAX_SHAPE or any(not isinstance(key, str) or len(key) > _MAX_TEXT for key in keys):
            return None
        if len(_shapes) >= _MAX_SHAPES:
            _shapes.clear()
        names = _shapes[keys] = _shape(keys)
    if not names:
        return None
    values = dict(row if names is _OWN else zip(names, row.values(), strict=True))
    step, epoch = values.pop("step"), values.pop("epoch", None)
    if step.__class__ is not int or not 0 <= step <= MAX_STEP:
        return None
    if epoch is not None:
        if epoch.__class__ not in (float, int) or not 0 <= epoch <= MAX_STEP:
            return None
        epoch = float(epoch)
    for name, value in values.items():
        if value.__class__ is not float:
            if value.__class__ is not int or not -MAX_STEP <= value <= MAX_STEP:
                return None
            values[name] = float(value)
    recognised = bool(values) or epoch is not None
    # As a tuple, for a call of the class costs half as much again.
    return tuple.__new__(Reading, (step, "step", epoch, None, None, values, (), {}, "", "", recognised, (), 0))


def _shape(keys: tuple[Any, ...]) -> tuple[str, ...]:
    """The names of keys that are one step, at most one epoch, and metrics of which no two are the same; else none.

    `_OWN` if they are called so already.
    """
    entries = [_cache.get(key) or _classify(key) for key in keys]
    slots = [slot for slot, *_ in entries]
    names = tuple({STEP: "step", EPOCH: "epoch"}.get(slot, name) for slot, name, _ in entries)
    usual = slots.count(STEP) == 1 and slots.count(EPOCH) <= 1 and {METRIC, OTHER, STEP, EPOCH}.issuperset(slots)
    # A flag may be spelled true; beside a runtime the loss is a summary.
    odd = any(name in _FLAGS or name.endswith("train_runtime") for name in names)
    if not usual or odd or len(set(names)) < len(names):
        return ()
    return _OWN if names == keys else names


def _scan(
    items: Iterable[tuple[str, Any]],
    prefix: str | None,
    values: dict[str, float],
    ranks: dict[str, int],
    nulls: list[str],
    facts: list[tuple[int, int, str, Any]],
) -> None:
    """The hot loop: sort every key of a row into values, nulls and facts. `prefix` None is the top level."""
    known = _cache
    for key, value in items:
        if prefix:
            key = f"{prefix}{key}"
        entry = known.get(key)
        if entry is None:
            entry = _classify(key)
        slot, name, rank = entry
        kind = type(value)
        if kind not in _SCALARS and isinstance(value, Mapping):
            if prefix is None:
                _scan(value.items(), _prefix(key), values, ranks, nulls, facts)
        elif slot == METRIC:
            if name in ranks and ranks[name] <= rank:
                continue
            number = value if kind is float else _flag(value) if name in _FLAGS else to_number(value)
            if number is not None:
                values[name] = number
                ranks[name] = rank
            elif value is None or (kind is str and value[:8].strip().lower() in ("null", "none")):
                nulls.append(name)
        elif slot == OTHER or (slot == TEXT and kind is not str):
            number = value if kind is float else to_number(value)
            if number is not None:
                values.setdefault(name, number)
        elif slot != TEXT:
            facts.append((rank, slot, name, value))


def _prefix(key: object) -> str:
    """What stands before the keys of the container `key`."""
    name = clean(key).strip().lower()
    return CONTAINERS.get(name, f"{name}/")


def _classify(key: object) -> Entry:
    """The entry of a key not met before, remembered unless it is monstrous."""
    name = clean(key).strip().lower()
    entry = FLAT.get(name) or FLAT.get(name.replace(" ", "_").replace("-", "_"))
    if entry is None:
        if name.startswith("lr-"):  # Lightning names it after the optimiser
            entry = (METRIC, "learning_rate", 900)
        else:
            entry = (TEXT if not _TEXTY.isdisjoint(PARTS.split(name)) else OTHER, name, 0) if name else (SKIP, "", 9999)
    if isinstance(key, str) and len(key) <= 2 * _MAX_TEXT:
        if len(_cache) >= _MAX_CACHE:
            _cache.clear()
        _cache[key] = entry
    return entry


def to_number(value: Any) -> float | None:
    """A float (NaN and infinities included) from a number or a string that spells one, else None."""
    kind = type(value)
    if kind is float:
        return value  # type: ignore[no-any-return]  # its class was asked for
    if value is None or kind is bool or kind is list or kind is dict:
        return None
    if kind is str:
        text = value.strip()
        if not text or len(text) > 64 or text[0] not in "+-.0123456789nNiI" or "_" in text:
            return None
        value = text
    elif kind is not int and not hasattr(kind, "__float__"):
        return None
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return None


def _flag(value: Any) -> float | None:
    if value is True or value is False:
        return 1.0 if value else 0.0
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return 1.0 if value.strip().lower() == "true" else 0.0
    return to_number(value)


def _fewer(values: dict[str, float]) -> dict[str, float]:
    """At most MAX_METRICS of `values`: canonical ones, then the first of the others."""
    kept = {k: v for k, v in values.items() if k in METRICS}
    for key, value in values.items():
        if len(kept) >= MAX_METRICS:
            break
        kept.setdefault(key, value)
    return kept


def _about_training(values: Mapping[str, float], nulls: Iterable[str]) -> bool:
    if not TRAINING_METRICS.isdisjoint(values) or not TRAINING_METRICS.isdisjoint(nulls):
        return True
    return any(name.endswith(("_loss", "/loss", "_reward", "/reward")) for name in values)


def _read_facts(
    facts: list[tuple[int, int, str, Any]], values: dict[str, float], source: str
) -> tuple[dict[int, Any], tuple[str, ...]]:
    """The best usable fact of each slot, and a sentence for each step or epoch that is not usable."""
    got: dict[int, Any] = {}
    odd: list[str] = []
    if len(facts) > 1:
        facts.sort(key=_by_rank)
    for _, slot, name, value in facts:
        if slot in got or value is None or slot == SKIP:
            continue
        found = _READERS[slot](value, name)
        if found is not None:
            got[slot] = found
        elif slot in (STEP, EPISODE, ITER, EPOCH):
            if len(odd) < _MAX_ODDITIES:
                odd.append(f"{source}: {_unusable(name, value)}" if source else _unusable(name, value))
            if slot == STEP and to_number(value) is not None:
                got.setdefault(_BAD_STEP, True)
        elif slot == TIME and (number := to_number(value)) is not None and name == "time":
            values.setdefault("time", number)  # a duration
    return got, tuple(odd)


def _unusable(name: str, value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**40:
        shown = "of more than 40 digits"  # str() of a huge one may be refused
    elif isinstance(value, (str, int, float)):
        shown = clean(value, 60)
    else:
        shown = f"given as a {'list' if isinstance(value, list) else type(value).__name__}"
    return f"{name} {shown} is not usable"


def _position(got: Mapping[int, Any]) -> tuple[int | None, str, int | None]:
    """(step, what it counts, total of the same) from the facts of a row.

    A numeric step that can't be used does not let the epoch take its place: a row that for once
    counted in another unit would look like a restart.
    """
    if STEP in got:
        return got[STEP], "step", got.get(TOTAL)
    if _BAD_STEP in got:
        return None, "step", got.get(TOTAL)
    if EPISODE in got:
        return got[EPISODE], "episode", got.get(TOTAL_EPISODES, got.get(TOTAL))
    if EPOCH in got:
        epoch: float = got[EPOCH]
        if epoch == int(epoch) or ITER not in got:
            return (int(epoch) if epoch == int(epoch) else None), "epoch", got.get(TOTAL_EPOCHS)
    if ITER in got:
        return got[ITER], "step", got.get(TOTAL)
    return None, "row", got.get(TOTAL)


def _whole(value: Any, _name: str = "") -> int | None:
    """An integer 0 <= n <= 2**53 from a number or string, else None."""
    if type(value) is int:
        return value if 0 <= value <= MAX_STEP else None
    number = to_number(value)
    if number is None or not 0 <= number <= MAX_STEP or number != int(number):
        return None
    return int(number)


def _positive(value: Any, _name: str) -> int | None:
    return _whole(value) or None


def _epoch(value: Any, _name: str) -> float | None:
    number = to_number(value)
    return number if number is not None and 0 <= number <= MAX_STEP else None


def _state(value: Any, name: str) -> str | None:
    if isinstance(value, bool):
        if name in ("is_running", "is_training"):
            return "training" if value else "idle"
        return "completed" if value and name in ("done", "complete") else None
    if not isinstance(value, str):
        return None
    return STATES.get(value[:64].strip(" \t\r\n.!").lower().replace(" ", "_").replace("-", "_"))


def _word(value: Any, _name: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    if isinstance(value, int) and abs(value) > 10**40:
        return None
    return clean(value).strip() or None


def _text(value: Any, _name: str) -> str | None:
    return (clean(value).strip() or None) if isinstance(value, str) else None


def _rank(value: Any, _name: str) -> int | None:
    found = _whole(value)
    return found if found is not None and found < 2**20 else None


def read_time(value: Any, _name: str = "") -> float | None:
    """Unix seconds from ISO 8601 (naive = local time) or a number in s, ms, us or ns; None if not believable."""
    number = to_number(value)
    if number is not None:
        for unit in (1.0, 1e3, 1e6, 1e9):
            if 1e8 <= number / unit < 1e11:
                return number / unit
    if not isinstance(value, str) or not 8 <= len(value) <= 40:
        return None
    try:
        return datetime.fromisoformat(value.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


_by_rank = itemgetter(0)
_BAD_STEP = -1
_FLAGS = ("has_nan", "has_inf")
_SCALARS = frozenset({float, int, str, bool, type(None), list})
_READERS: dict[int, Callable[[Any, str], Any]] = {
    STEP: _whole, EPISODE: _whole, ITER: _whole, EPOCH: _epoch, TOTAL: _positive, TOTAL_EPISODES: _positive,
    TOTAL_EPOCHS: _positive, TIME: read_time, STATE: _state, NOTE: _text, PID: _word, RUN: _word, RANK: _rank,
}  # fmt: skip


_OWN = ("",)
"""The names of keys that are such already."""
_shapes: dict[tuple[Any, ...], tuple[str, ...]] = {}
"""The keys of rows met lately -> `_shape`."""
_cache: dict[str, Entry] = {}
