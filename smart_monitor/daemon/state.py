"""State: a cache of the journal's fold, so that a restart need not fold from the beginning."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from smart_monitor.daemon.place import Place, read_small, write_atomically
from smart_monitor.engine import Engine, StateError
from smart_monitor.model import SCHEMA


@dataclass(slots=True)
class Saved:
    """What a state file says beside the engine's own state."""

    number: int
    """The last journal line that is folded into it."""
    records: int
    cursor: dict[str, Any]


def save(place: Place, engine: Engine, saved: Saved, *, durable: bool) -> None:
    """Write the state file. Raises OSError."""
    document = {
        "schema": SCHEMA,
        "number": saved.number,
        "records": saved.records,
        "cursor": saved.cursor,
        "engine": engine.state(),
    }
    write_atomically(place.state, json.dumps(document, separators=(",", ":")).encode(), durable=durable)


def load(place: Place, engine: Engine) -> tuple[Saved, str]:
    """Restore the engine; (where it stands, a sentence if the state could not be used)."""
    nothing = Saved(0, 0, {})
    try:
        content = read_small(place.state)
    except FileNotFoundError:
        return nothing, ""
    except OSError as error:
        return nothing, f"The state can't be read ({error.strerror}); the journal is folded anew."
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise StateError(f"schema {document['schema']!r}, this version writes {SCHEMA}")
        saved = Saved(int(document["number"]), int(document["records"]), dict(document["cursor"]))
        engine.restore(document["engine"])
    except (StateError, ValueError, KeyError, TypeError, RecursionError) as error:
        aside = place.state.with_name(f"state.unusable-{int(time.time())}.json")
        try:
            place.state.rename(aside)
        except OSError:
            pass  # it is overwritten at the next save; the journal holds everything
        return nothing, f"The state is not usable ({error}); it is set aside as {aside.name} and the journal folded anew."
    return saved, ""
