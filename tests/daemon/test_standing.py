"""What the judged records say of a checkpoint: calm when completed, proven by fifty records without an incident."""

from __future__ import annotations

import pytest

from smart_monitor.config import Settings
from smart_monitor.daemon.standing import PROOF, Standings, trouble
from smart_monitor.engine import Engine
from smart_monitor.model import Checkpoint, FileStamp, Record


class Told:
    """Standings fed by hand: one record a second, and incidents at will."""

    def __init__(self) -> None:
        self.engine = Engine("run", Settings(), {})
        self.standings = Standings()
        self.now = 1000.0
        self.index = 0

    def judge(self, count: int, incident: str = "", first_step: int | None = 0) -> None:
        for _ in range(count):
            self.now += 1
            record = Record("run", "status", self.index, step=self.index, seen=self.now, values={"loss": 0.7})
            if not self.engine.ranks:
                self.engine.feed(record)
            self.engine.ranks[0].incidents.open = {incident: {"first_step": first_step}} if incident else {}
            self.standings.heed(record, self.engine)
            self.index += 1

    def save(self, step: int | None = None, *, ago: float = 0.0, first: bool = False) -> Checkpoint:
        """A checkpoint completed so many seconds ago, noticed now."""
        when = self.now - ago
        found = Checkpoint(f"c{when}", f"/x/c{when}", step, "hf", "m", when, (FileStamp("w", 1, 1, 1, int(when * 1e9)),))
        assert self.standings.meet(found, first=first, engine=self.engine)
        assert not self.standings.meet(found, first=first, engine=self.engine)
        return found


def test_it_is_proven_by_fifty_records_and_not_by_forty_nine() -> None:
    told = Told()
    told.judge(5)
    found = told.save()
    told.judge(49)
    assert not told.standings.proven(found)
    told.judge(1)
    assert told.standings.proven(found)


def test_an_incident_begins_the_proof_anew_and_one_about_the_host_does_not() -> None:
    told = Told()
    told.judge(5)
    found = told.save()
    told.judge(30)
    told.judge(2, "loss")
    told.judge(PROOF - 1)
    assert not told.standings.proven(found)
    told.judge(1, "host")
    assert told.standings.proven(found)
    assert trouble(told.engine) is None


@pytest.mark.parametrize(("ago", "calm"), [(0.5, False), (2.5, False), (3.5, True)])
def test_calm_is_what_was_when_it_was_completed_and_not_when_it_was_noticed(ago: float, calm: bool) -> None:
    told = Told()
    told.judge(10)
    told.judge(4, "loss")
    assert calm == told.standings.calm(told.save(ago=ago))


def test_after_an_incident_checkpoints_are_completed_in_calm_again() -> None:
    told = Told()
    told.judge(4, "loss")
    told.judge(3)
    assert told.standings.calm(told.save())
    assert not told.standings.calm(told.save(ago=3.5))


def test_at_first_contact_the_steps_tell_which_are_from_before_the_trouble() -> None:
    told = Told()
    told.judge(3, "loss", first_step=300)
    calm = {
        step: told.standings.calm(told.save(step, ago=ago, first=True)) for step, ago in ((200, 50.0), (400, 40.0), (None, 30.0))
    }
    assert {200: True, 400: False, None: False} == calm


def test_what_is_proven_stays_so_across_a_restart_and_a_proof_under_way_begins_anew() -> None:
    told = Told()
    told.judge(1)
    good = told.save()
    told.judge(PROOF)
    later = told.save(ago=20.0)
    heir = Standings()
    heir.restore(told.standings.state())
    told.standings = heir
    told.judge(PROOF - 1)
    assert (True, False) == (heir.proven(good), heir.proven(later))
    told.judge(1)
    assert heir.proven(later)


def test_the_time_of_a_record_is_known_as_long_as_it_is_remembered() -> None:
    told = Told()
    told.judge(600)
    assert 1000.0 + 600 == told.standings.time_of(599)
    assert 1000.0 + 100 == told.standings.time_of(99)
    assert told.standings.time_of(80) is None
    assert told.standings.time_of(600) is None
