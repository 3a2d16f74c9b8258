"""Where training stands, where no name stands before the number: progress bars and brackets of some trainers. Pure."""

from __future__ import annotations

import re

_BAR = re.compile(
    # tqdm's `10/375 [00:13<08:00, …` and `42it [00:13, …`; llama.cpp's `data=0000064/0000460`.
    r"(?<![\w.,/])(?:(\d{1,18})(?:/(\d{1,18})|[a-z]{1,12}) \[\d[\d:]{0,12}[<,]|data=(\d{1,18})/(\d{1,18})\b)",
    re.IGNORECASE,
)
_OPENMMLAB = re.compile(
    r"\b(epoch|iter)\((train|val|test)\)\s{1,8}\[\s{0,8}(\d{1,18})(?:/\s{0,8}(\d{1,18}))?\](?:\[\s{0,8}(\d{1,18})/)?",
    re.IGNORECASE,
)
_TIMM = re.compile(r"\btrain:\s{1,4}(\d{1,9})\s{1,4}\[\s{0,8}(\d{1,18})/", re.IGNORECASE)
_TUTORIAL = re.compile(r"\s{0,8}\[(\d{1,9}),\s{0,8}(\d{1,18})\]\s{1,8}(?=loss)", re.IGNORECASE)
WHOLE = 0.9
"""The share of a bar after which another one goes on behind it: the last look at it may have been missed."""


def bar(text: str) -> list[int] | None:
    """[done, of] of the last progress bar in a line; `of` is 0 where nobody knows it."""
    found = None
    for found in _BAR.finditer(text):  # noqa: B007
        pass
    return None if found is None else [int(found[1] or found[3]), int(found[2] or found[4] or 0)]


def along(now: list[int], before: list[int]) -> list[int]:
    """[done, of, steps of the bars before it] of the bar `now`; `before`: what this said last, or nothing.

    A bar that begins anew goes on where the one before it ended, as one for each epoch does; one behind a bar that was
    broken off is a run that was started again.
    """
    done, of = now
    if not before:
        return [done, of, 0]
    last, whole, sum_ = before
    if done < last or of != whole:
        sum_ = sum_ + (whole or last) if last >= WHOLE * whole else 0
    return [done, of, sum_]


def bracketed(text: str) -> tuple[dict[str, str], bool]:
    """(the place that brackets tell, by its names; is it one of an evaluation?)."""
    if (found := _OPENMMLAB.search(text)) is not None:
        kind, mode, first, total, within = found.groups()
        names = {"iter": first, "total_steps": total} if kind.lower() == "iter" else {"epoch": first, "iter": within}
        evaluates = mode.lower() != "train"
        # What an evaluation counts are its own batches.
        kept = {"epoch": first} if evaluates and kind.lower() == "epoch" else {} if evaluates else names
        return {name: number for name, number in kept.items() if number is not None}, evaluates
    if (found := _TIMM.search(text) or _TUTORIAL.match(text)) is not None:
        return {"epoch": found[1], "iter": found[2]}, False
    return {}, False
