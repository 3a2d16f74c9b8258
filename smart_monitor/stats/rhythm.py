"""The rhythm of a run: how long a step usually takes, and how long the pauses for evaluations and saves.

A pause that comes at equal distances is expected where the next is due and nowhere else, so that a run that evaluates for
twenty minutes every thousand steps is still found hung within minutes in between. The memory is plain JSON and bounded.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

STEPS = 20
"""Intervals between records that are remembered."""
PAUSES = 8
"""Pauses of each kind that are remembered."""
FEW = 3
"""Equal distances say something from so many pauses on."""
PAUSE, SHORTEST = 5.0, 30.0
"""An interval of more medians than this, and more seconds, is a pause and no step."""
SLOW, JITTER = 6.0, 2.0
"""Times the median, and times the longest of the last intervals, that a step may take."""
AGAIN = 3.0
"""Times the longest pause (start, first step) that the next may take."""

TRAIN, EVAL, SAVE, START, FIRST = "train", "eval", "save", "start", "first step"


def beat(
    memory: dict[str, Any], seen: float, step: int | None, *, evaluation: bool = False, began: bool = False, counts: bool = True
) -> None:
    """A record came at `seen` (unix seconds). `began`: with it a new attempt; `counts`: it was not there at first contact."""
    last = memory.get("last")
    if began:
        memory["attempt"] = 0
    elif last is not None and counts:
        _learn(memory, max(0.0, seen - last), step, evaluation=evaluation)
    memory["last"], memory["step"] = seen, step
    memory["live"] = memory.get("live", False) or counts
    memory.pop("since", None)


def _learn(memory: dict[str, Any], gap: float, step: int | None, *, evaluation: bool) -> None:
    # A clock set back gives an interval of nothing; it says nothing about the rhythm.
    gaps: list[float] = memory.get("gaps", [])
    before = memory.get("step")
    memory["moved"] = max(1, (step or 0) - (before or 0)) if before is not None and step is not None else memory.get("moved", 1)
    number = memory["attempt"] = memory.get("attempt", 0) + 1
    if number == 1:
        memory["first"] = round(gap, 3)
        if gap > SHORTEST:
            return
    if gap > SHORTEST and gap > PAUSE * (median(gaps) if gaps else 0.0) and (gaps or evaluation):
        kind = EVAL if evaluation else SAVE
        memory[kind] = [*memory.get(kind, []), [before, round(gap, 3)]][-PAUSES:]
    else:
        memory["gaps"] = [*gaps, round(gap, 3)][-STEPS:]


def usual(memory: dict[str, Any]) -> float | None:
    """The median interval between two records, in seconds; None before there is one."""
    gaps = memory.get("gaps")
    return median(gaps) if gaps else None


def budget(memory: dict[str, Any], floor: float, start: float) -> tuple[str, float]:
    """(phase, seconds): what the run may be doing now, and how long it may take, counted from its last record."""
    if "since" in memory or memory.get("last") is None:
        return START, start
    gaps: list[float] = memory.get("gaps", [])
    if not gaps or not memory.get("attempt"):
        first = memory.get("first")
        return FIRST, start if first is None else max(floor, AGAIN * first)
    train = TRAIN, max(floor, SLOW * median(gaps), JITTER * max(gaps))
    due = [(kind, max(floor, AGAIN * max(length for _, length in memory[kind]))) for kind in (EVAL, SAVE) if _due(memory, kind)]
    return max([train, *due], key=lambda found: found[1])


def _due(memory: dict[str, Any], kind: str) -> bool:
    """May a pause of this kind come now?"""
    pauses = memory.get(kind)
    if not pauses:
        return False
    places, now, slack = [step for step, _ in pauses], memory.get("step"), memory.get("moved", 1)
    if now is None or None in places or len(places) < FEW:
        return True
    distances = [b - a for a, b in pairwise(places)]
    usual_distance = median(distances)
    if usual_distance <= 2 * slack or max(abs(d - usual_distance) for d in distances) > slack:
        return True  # they come as they like
    since = (now - places[-1]) % usual_distance
    return bool(min(since, usual_distance - since) <= slack)
