"""Patterns of the user's for text logs: regular expressions whose named groups are the names of metrics.

A regular expression can take for ever on a line that its author did not think of, and nothing can stop one
from outside. So those that can take exponential time are refused when they are given (a repeat within a
repeat), lines are cut, and a pattern that was once seen to be slow is no longer asked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from smart_monitor.names import clean

MAX_TEXT = 400
"""Characters of a line that are shown to a pattern: its end. With MAX_WIDE, what bounds the time of one match."""
MAX_PATTERNS = 32
MAX_WIDE = 2
"""Boundless repeats of a wide class (`.*`, `\\S+`) in one pattern: each may cost the length of the line once more."""
SLOW = 0.05
"""Seconds of one match after which a pattern is given up."""
_MANY = 64


class BadPattern(ValueError):
    """A pattern that cannot be used; the text is one sentence."""


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, ready for use. Raises BadPattern."""
    shown = clean(pattern, 80)
    try:
        tree = parser.parse(pattern)
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError, MemoryError) as error:
        raise BadPattern(f"the pattern {shown} is no regular expression: {clean(error)}.") from None
    if not found.groupindex:
        raise BadPattern(f"the pattern {shown} names nothing: write the metrics as groups, like loss=(?P<loss>\\S+).")
    wide = _wide(tree, inside=False)
    if wide is None:
        raise BadPattern(f"the pattern {shown} repeats a repeat (or two in a row), which can take for ever.")
    if wide > MAX_WIDE:
        raise BadPattern(f'the pattern {shown} says "any character, any number of times" more than {MAX_WIDE} times.')
    return found


def _wide(tree: Any, *, inside: bool) -> int | None:
    """How many repeats of a wide class there are; None if one stands within (`inside`) or right behind another."""
    count, before = 0, False
    for kind, argument in tree:
        below = list(_below(kind, argument))
        repeats = kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and argument[1] > _MANY
        if repeats and (inside or before):
            return None
        before = repeats
        if repeats and any(k in (op.ANY, op.NOT_LITERAL) or (k is op.IN and _is_wide(a)) for k, a in argument[2]):
            count += 1
        for part in below:
            found = _wide(part, inside=inside or repeats)
            if found is None:
                return None
            count += found
    return count


def _is_wide(members: Any) -> bool:
    return any(kind is op.NEGATE or (kind is op.CATEGORY and "NOT" in str(what)) for kind, what in members)


def _below(kind: Any, argument: Any) -> Iterator[Any]:
    """The parts that a node of the tree is made of."""
    for part in argument if isinstance(argument, (tuple, list)) else (argument,):
        if isinstance(part, parser.SubPattern):
            yield part
        elif isinstance(part, list) and kind is op.BRANCH:
            yield from part


class UserPatterns:
    """The patterns of one log; false if there are none left to ask."""

    def __init__(self, patterns: tuple[str, ...], slow: float = SLOW) -> None:
        self._slow = slow
        self._troubles: list[str] = []
        self._asked: list[re.Pattern[str]] = []
        for pattern in patterns[:MAX_PATTERNS]:
            try:
                self._asked.append(compiled(pattern))
            except BadPattern as error:
                self._troubles.append(str(error))

    def __bool__(self) -> bool:
        return bool(self._asked or self._troubles)

    def troubles(self) -> list[str]:
        """Sentences since the last call: what cannot be used, and why."""
        found, self._troubles = self._troubles, []
        return found

    def match(self, text: str) -> dict[str, str | None]:
        """The named groups of the first pattern that is found in `text`; {} if none is."""
        text = text[-MAX_TEXT:]
        for pattern in self._asked:
            began = time.thread_time()
            found = pattern.search(text)
            took = time.thread_time() - began
            if took > self._slow:
                self._asked.remove(pattern)
                shown = clean(pattern.pattern, 80)
                self._troubles.append(f"the pattern {shown} took {took:.2f} s on one line and is no longer asked.")
            if found is not None:
                return {name: value for name, value in found.groupdict().items() if value is not None}
        return {}
