"""What the keeper promises: the right checkpoint, the status that stood beside it, and the truth about what was lost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.daemon.keeper import Keeper
from smart_monitor.daemon.place import Place
from smart_monitor.engine import Engine
from smart_monitor.model import Decision, Record
from smart_monitor.registry import rule_classes
from smart_monitor.snapshots.intents import Needs
from tests.checkpoints.trees import hf_checkpoint
from tests.snapshots.runs import METADATA, ROOMY, decision
from tests.waiting import until

BEST = replace(decision("best", "best_model_loss_0.5000"), kinds=("best_model",), severity="info")


class Kept:
    """A keeper of a run of its own, and what it published."""

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "current_model").mkdir(parents=True)
        place = Place(base, None)
        place.settle()
        self.keeper = Keeper(place, "r", ROOMY, Engine("r", ROOMY, rule_classes()))

    def save(self, step: int) -> None:
        """One more checkpoint, seen complete."""
        hf_checkpoint(self.base / "current_model", step)
        holding = self.keeper.holding
        until(lambda: holding.look() or any(o.checkpoint.step == step for o in holding.options()), "the checkpoint")

    def keep(self, wanted: Decision, status: bytes | None = b"{}") -> dict[str, Any] | None:
        """The metadata of its snapshot; None if none was promised."""
        return self.published(1 + len(self.names())) if self.keeper.keep(wanted, status) else None

    def published(self, count: int) -> dict[str, Any]:
        """The newest metadata once there are so many snapshots."""
        until(lambda: self.keeper.pump() is not None and len(self.names()) == count, "the snapshot")
        until(lambda: self.keeper.pump() is not None and not self.keeper.store.open, "the end of the promise")
        path = max((self.base / "snapshots").glob("anomaly_*"), key=lambda p: p.stat().st_mtime_ns)
        document: dict[str, Any] = json.loads((path / "metadata.json").read_text())
        return document | {"status": next(path.glob("training_status.json")).read_bytes()}

    def names(self) -> list[str]:
        return [p.name for p in (self.base / "snapshots").glob("anomaly_*")]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "run")


def test_trouble_that_lasts_is_kept_again_only_with_a_newer_checkpoint(kept: Kept) -> None:
    lasting = replace(decision("lasting", "loss_spike_not_recovered"), only_if_newer=True)
    assert kept.keep(lasting) is None  # there is none at all
    kept.save(500)
    first = kept.keep(decision())
    assert first is not None
    assert "checkpoint-500" == first["checkpoint"]["name"]
    assert kept.keep(lasting) is None
    kept.save(600)
    second = kept.keep(lasting)
    assert second is not None
    assert "checkpoint-600" == second["checkpoint"]["name"]


def test_the_status_kept_for_a_best_model_that_waited_at_a_gate_is_its_own(
    kept: Kept,
) -> None:
    kept.save(500)
    kept.keeper.remember_status(replace(BEST, gated="too soon"), b'{"loss": 0.5}')
    kept.keeper.remember_status(replace(decision(), record=4), b'{"loss": 9.0}')  # no best model: of no use
    best = kept.keep(BEST, b'{"loss": 0.9}')
    other = kept.keep(replace(BEST, id="another", record=5, reason="best_model_loss_0.4000"), b'{"loss": 0.4}')
    assert best is not None
    assert other is not None
    assert (b'{"loss": 0.5}', b'{"loss": 0.4}') == (best["status"], other["status"])


def test_where_records_count_epochs_time_tells_what_was_saved_before_the_trouble(kept: Kept) -> None:
    kept.save(600)  # behind epoch 7, if one could say so
    record = Record("r", "text", 3, step=7, by="epoch", seen=time.time() + 1)
    kept.keeper.holding.standings.heed(record, Engine("r", ROOMY, rule_classes()))
    found = kept.keep(replace(decision(), step=7, onset_step=7, facts={"by": "epoch"}))
    assert found is not None
    assert ("epoch", "checkpoint-600") == (found["by"], found["rollback"]["resume_from"])


def test_a_last_good_checkpoint_that_was_lost_from_its_hold_is_named_as_missing(kept: Kept) -> None:
    kept.save(700)  # later than the trouble, which began at step 590: there is no other good one
    kept.keeper.store.begin(decision(), METADATA, b"{}", time.time(), Needs("", "hold-that-is-gone", None))
    found = kept.published(1)
    assert "checkpoint-700" == found["checkpoint"]["name"]
    assert found["last_good"] is None
    words = "the hold on the last good checkpoint was overwritten or taken away"
    assert [{"what": "last_good", "why": words}] == found["missing"]
