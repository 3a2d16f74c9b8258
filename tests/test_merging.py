"""Several sources of one run: each metric judged from exactly one."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from smart_monitor.merging import Merging, Share
from smart_monitor.model import STATE, Record


def record(source: str, step: int | None, rank: int = 0, **values: float) -> Record:
    return Record("run", source, 0, step, values=values, rank=rank)


def judged(share: Share) -> dict[str, float]:
    return dict(share.judged.values) if share.judged is not None else {}


def test_a_metric_that_two_sources_give_is_judged_from_the_more_trusted_and_the_other_is_evidence() -> None:
    merging = Merging(["log", "status"])
    assert {"loss": 1.0} == judged(merging.share(record("log", 1, loss=1.0)))
    share = merging.share(record("status", 2, loss=1.1, accuracy=0.5))
    assert ({"accuracy": 0.5}, {"loss": 1.1}) == (judged(share), dict(share.evidence))
    assert Share(None, {"loss": 1.2}) == merging.share(record("status", 3, loss=1.2))
    assert {(0, "loss"): "log", (0, "accuracy"): "status"} == merging.owners()


def test_a_more_trusted_source_that_comes_later_takes_over_behind_the_last_step_judged() -> None:
    merging = Merging(["log", "status"])
    for step in range(1, 6):
        merging.share(record("status", step, loss=1.0))
    taken = [step for step in range(1, 9) if judged(merging.share(record("log", step, loss=2.0)))]
    assert [6, 7, 8] == taken
    assert {} == judged(merging.share(record("status", 9, loss=1.0)))


def test_a_source_that_is_lost_gives_its_metrics_back() -> None:
    merging = Merging(["log", "status"])
    merging.share(record("log", 5, loss=1.0))
    merging.release("log")
    taken = [step for step in (4, 5, 6, 7) if judged(merging.share(record("status", step, loss=2.0)))]
    assert [6, 7] == taken


def test_a_restart_of_the_owner_is_judged_on() -> None:
    merging = Merging(["log"])
    merging.share(record("log", 900, loss=1.0))
    assert {"loss": 1.0} == judged(merging.share(record("log", 0, loss=1.0)))


def test_each_rank_has_owners_of_its_own() -> None:
    merging = Merging(["a", "b"])
    assert all(judged(merging.share(record(source, 1, rank, loss=1.0))) for rank, source in enumerate("ab"))


def test_nulls_go_with_their_metric_and_states_are_of_everybody() -> None:
    merging = Merging(["a", "b"])
    merging.share(record("a", 1, loss=1.0))
    share = merging.share(record("b", 1, lr=0.5)._replace(nulls=("loss", "kl")))
    assert share.judged is not None
    assert ("kl",) == share.judged.nulls
    state = Record("run", "b", 0, kind=STATE, state="completed")
    assert Share(state, {}) == merging.share(state)


FEED = st.lists(
    st.builds(
        lambda source, step, rank, names: record(source, step, rank, **dict.fromkeys(names, 1.0)),
        st.sampled_from("abc"),
        st.one_of(st.none(), st.integers(0, 9)),
        st.integers(0, 1),
        st.lists(st.sampled_from(["loss", "lr", "acc"]), max_size=3, unique=True),
    ),
    max_size=30,
)


@given(FEED, st.integers(0, 30))
def test_every_value_is_judged_or_evidence_and_a_cut_anywhere_changes_nothing(feed: list[Record], cut: int) -> None:
    whole, other = Merging("abc"), Merging("abc")
    for at, one in enumerate(feed):
        if at == cut:
            other = Merging("abc", json.loads(json.dumps(other.state())))
        share = whole.share(one)
        assert share == other.share(one)
        assert dict(one.values) == {**judged(share), **share.evidence}
        assert not judged(share).keys() & share.evidence.keys()
        for name in judged(share):
            assert one.source == whole.owners()[one.rank, name]
