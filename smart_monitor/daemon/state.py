"""State: a cache of the journal's fold, so that a restart need not fold from the beginning."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from smart_monitor.daemon.place import Place, read_small
from smart_monitor.engine import Engine, StateError
from smart_monitor.model import SCHEMA
from smart_monitor.snapshots.folders import write_atomically


@dataclass(slots=True)
class Saved:
    """What a state file says beside the engine's own state."""

    number: int = 0
    """The last journal line that is folded into it; 0: nothing, there is no usable state."""
    records: int = 0
    cursor: dict[str, Any] = field(default_factory=dict)
    events: int = 0
    """Size of events.jsonl when it was saved: what is told again after a crash stands behind that."""
    word: str = ""
    """The trainer's last state word."""
    unseen: int = 0
    """Steps that passed unseen while the monitor was down."""
    process: dict[str, Any] = field(default_factory=dict)
    """The trainer's process (`Trainer.state`)."""
    met: bool = False
    """Was all taken in that stood there at first contact?"""


def save(place: Place, engine: Engine, saved: Saved, *, durable: bool) -> None:
    """Write the state file. Raises OSError."""
    document = {"schema": SCHEMA, **{name: getattr(saved, name) for name in Saved.__slots__}, "engine": engine.memory()}
    write_atomically(place.state, json.dumps(document, separators=(",", ":")).encode(), durable=durable)


def load(place: Place, engine: Engine) -> tuple[Saved, str]:
    """Restore the engine; (where it stands, a sentence if the state could not be used)."""
    try:
        content = read_small(place.state)
    except FileNotFoundError:
        return Saved(), ""
    except OSError as error:
        return Saved(), f"The state can't be read ({error.strerror}); the journal is folded anew."
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise StateError(f"schema {document['schema']!r}, this version writes {SCHEMA}")
        saved = Saved(
            number=int(document["number"]), records=int(document["records"]), cursor=dict(document["cursor"]),
            events=int(document["events"]), word=str(document["word"]), unseen=int(document["unseen"]),
            process=dict(document.get("process", {})),
            met=bool(document["met"]),
        )  # fmt: skip
        engine.restore(document["engine"])
    except (StateError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        aside = place.state.with_name(f"state.unusable-{int(time.time())}.json")
        try:
            place.state.rename(aside)
        except OSError:
            pass  # it is overwritten at the next save; the journal holds everything
        why = str(error) or type(error).__name__
        return Saved(), f"The state is not usable ({why}); it is set aside as {aside.name} and the journal folded anew."
    return saved, ""
