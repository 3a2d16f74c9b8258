"""Files that are one JSON document: what can be made of their bytes."""

from __future__ import annotations

import json
from typing import Any

from smart_monitor.names import clean
from smart_monitor.sources.files import CannotSee


class Torn(Exception):
    """The content is not whole; the text says in what way."""


def parse_json(raw: bytes, where: str) -> Any:
    """The JSON value in `raw`. Raises Torn if it may be half-written, CannotSee if more bytes would not help."""
    if not raw.strip(b" \t\r\n\0"):
        raise Torn("it is empty")
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        if error.end >= len(raw) and error.reason == "unexpected end of data":
            raise Torn("it ends in the middle of a character") from None
        raise CannotSee(f"{where} is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise Torn(f"it is no whole JSON ({clean(error.msg)} at character {error.pos})") from None
    except RecursionError:
        raise CannotSee(f"{where} is nested too deep to be a training status.") from None
    except ValueError:
        raise CannotSee(f"{where} holds a number of too many digits.") from None
    except MemoryError:
        raise CannotSee(f"{where} needs more memory than there is.") from None
