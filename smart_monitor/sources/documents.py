"""Files that are one JSON document: their bytes, what can be made of them, and patience with those half-written."""

from __future__ import annotations

import json
import os
from typing import Any

from smart_monitor.names import clean
from smart_monitor.sources import Cursor, Pass, Sight
from smart_monitor.sources.bare import respelled
from smart_monitor.sources.files import CannotSee, open_regular, read_up_to, shown, why

RETRIES = (0.05, 0.1, 0.2)
"""Seconds until the next look at a torn file; after these, each ordinary pass."""
TORN_FOR = 10.0
"""Seconds of nothing but torn reads after which we say that we can't see."""


class Torn(Exception):
    """The content is not whole; the text says in what way."""


def parse_json(raw: bytes, path: str) -> Any:
    """The JSON value in `raw`, which stands at `path`.

    Raises Torn if it may be half-written, CannotSee if more bytes would not help.
    """
    if not raw.strip(b" \t\r\n\0"):
        raise Torn("it is empty")
    try:
        text = raw.decode().removeprefix("\ufeff")
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            if (other := respelled(text)) == text:
                raise
            return json.loads(other)
    except UnicodeDecodeError as error:
        if error.end >= len(raw) and error.reason == "unexpected end of data":
            raise Torn("it ends in the middle of a character") from None
        raise CannotSee(f"{shown(path)} is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise Torn(f"it is no whole JSON ({clean(error.msg)} at character {error.pos})") from None
    except RecursionError:
        raise CannotSee(f"{shown(path)} is nested too deep to be a training status.") from None
    except ValueError:
        raise CannotSee(f"{shown(path)} holds a number of too many digits.") from None
    except MemoryError:
        raise CannotSee(f"{shown(path)} needs more memory than there is.") from None


def document_bytes(path: str, max_bytes: int, known: os.stat_result | None = None) -> tuple[bytes | None, os.stat_result]:
    """The content (None: too large) and the stat under which reading began; `known`: see `open_regular`. Raises CannotSee."""
    fd, found = open_regular(path, known)
    try:
        if found.st_size > max_bytes:
            return None, found
        raw = read_up_to(fd, found.st_size + 1)  # room for the largest would be made anew for each of the many small ones
        if len(raw) > found.st_size:
            raw += read_up_to(fd, max_bytes + 1 - len(raw), len(raw))
        return (raw if len(raw) <= max_bytes else None), found
    except OSError as error:
        raise CannotSee(why(path, error)) from None
    finally:
        os.close(fd)


def too_large(path: str, size: int, max_bytes: int) -> str:
    """The sentence for a document of `size` bytes that is not read."""
    return f"{shown(path)} is too large: {size / 2**20:.0f} MiB, more than the {max_bytes / 2**20:g} MiB that are read."


def look_again(cursor: Cursor, identity: list[Any], path: str, how: str, now_mono: float) -> Pass:
    """The pass over a torn file: look again soon; after TORN_FOR seconds of this, say so and wait until it changes."""
    before = cursor.get("torn", {})
    since = min(before.get("since", now_mono), now_mono)  # the clock starts anew with the machine
    tries = before.get("tries", 0) if before.get("file") == identity else 0
    following = {**cursor, "torn": {"since": since, "tries": tries + 1, "file": identity}}
    if now_mono - since < TORN_FOR:
        reason = cursor.get("why", "")
        again = RETRIES[tries] if tries < len(RETRIES) else None
        return Pass(following, Sight(not reason, reason, path), retry_in=again, torn=True)
    following |= {"file": identity, "why": f"{shown(path)} has not been whole for more than {TORN_FOR:g} s: {how}."}
    following.pop("again", None)
    return Pass(following, Sight(False, following["why"], path))


def refused(following: Cursor, identity: list[Any], path: str, reason: str) -> Pass:
    """The pass over a file that is whole and of no use, until it changes."""
    following |= {"file": identity, "why": reason}
    return Pass(following, Sight(False, reason, path))
