"""What the store promises and how it keeps it, with a real worker."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smart_monitor.snapshots.intents import Intent, Needs
from smart_monitor.snapshots.job import Choice, rollback
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.store import Store, StoreEvent
from smart_monitor.snapshots.verify import verify
from tests.checkpoints.trees import fingerprint, hf_checkpoint, safetensors_bytes
from tests.snapshots.holding import Beside
from tests.snapshots.runs import METADATA, ROOMY, STATUS, chosen, complete, decision, drive, snapshot
from tests.waiting import until


@pytest.fixture
def base(tmp_path: Path) -> Path:
    hf_checkpoint(tmp_path / "current_model", 500, files=2)
    (tmp_path / "current_model" / "adapter_model.safetensors").write_bytes(safetensors_bytes())
    (tmp_path / "current_model" / "train.jsonl").write_text("data")
    return tmp_path


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if not p.is_dir())


def nothing(intent: Intent) -> Choice:
    return Choice()


def test_a_snapshot_holds_the_checkpoint_under_its_name_the_model_the_status_and_the_sums(base: Path) -> None:
    path = snapshot(base, base)
    inside = "model/checkpoint-500"
    expected = [f"{inside}/{name}" for name in os.listdir(base / "current_model" / "checkpoint-500")]
    expected += ["SHA256SUMS", "metadata.json", "model/adapter_model.safetensors", "training_status.json"]
    assert sorted(expected) == tree(path)
    assert (path / "training_status.json").read_bytes() == STATUS
    for name in os.listdir(path / inside):
        assert (path / inside / name).read_bytes() == (base / "current_model" / "checkpoint-500" / name).read_bytes()
    assert verify(path) == []


def test_the_directory_is_called_by_local_time_and_reason_and_is_private(base: Path) -> None:
    before = time.time()
    path = snapshot(base, base)
    match = re.fullmatch(r"anomaly_([0-9]{8}_[0-9]{6})_loss_spike_37\.8pct", path.name)
    assert match
    assert abs(time.mktime(time.strptime(match[1], "%Y%m%d_%H%M%S")) - before) < 10
    assert before - 1 < path.stat().st_mtime < time.time() + 1
    modes = {stat.S_IMODE(p.stat().st_mode) for p in [path, *path.rglob("*")] if p.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.rglob("*") if p.is_file()} == {0o600}


def test_the_metadata_is_strict_json_with_every_promised_key(base: Path) -> None:
    path = snapshot(base, base)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    document = json.loads((path / "metadata.json").read_text(), parse_constant=refuse)
    assert list(document) == [
        "schema", "id", "timestamp", "time", "reason", "snapshot_name", "run", "attempt", "step", "onset_step",
        "loss", "accuracy", "learning_rate", "triggers", "loss_history", "accuracy_history", "best_loss", "best_loss_step",
        "findings", "checkpoint", "last_good", "rollback", "missing", "files", "monitor",
    ]  # fmt: skip
    assert document["schema"] == 1
    assert document["snapshot_name"] == path.name
    assert document["timestamp"] in path.name
    assert document["loss_history"] == [0.74, "NaN", 1.0234]
    assert document["checkpoint"]["name"] == "checkpoint-500"
    assert document["checkpoint"]["step"] == 500
    assert document["checkpoint"]["source"] == str(base / "current_model" / "checkpoint-500")
    assert document["last_good"] is None
    assert document["rollback"]["suspect_steps"] == [501, 600]
    assert document["missing"] == []
    assert [f["path"] for f in document["files"]].count("training_status.json") == 1
    listed = {f["path"] for f in document["files"]}
    assert listed == set(tree(path)) - {"metadata.json", "SHA256SUMS"}
    for file in document["files"]:
        assert (path / file["path"]).stat().st_size == file["bytes"]
        assert file["how"] in ("clone", "copy")


def test_the_real_sha256sum_agrees(base: Path) -> None:
    path = snapshot(base, base)
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(tree(path)) - 1


def test_the_trainers_directory_is_the_same_to_the_last_bit_afterwards(base: Path) -> None:
    before = fingerprint(base / "current_model")
    path = snapshot(base, base)
    assert before == fingerprint(base / "current_model")
    theirs = {p.stat().st_ino for p in (base / "current_model").rglob("*")}
    assert not theirs & {p.stat().st_ino for p in path.rglob("*")}


def test_a_promise_is_on_the_disk_before_it_is_given_and_survives_a_restart(base: Path) -> None:
    given = Store(base, ROOMY).begin(decision(), METADATA, STATUS, time.time())
    store = Store(base, ROOMY)
    assert store.open == (given,) or store.open[0].id == given.id
    assert store.open[0].status == STATUS
    assert [e.state for e in drive(store, chosen(base))] == ["published"]
    store.stop(0)
    assert list((base / ".smart_monitor" / "intents").iterdir()) == []


def test_the_same_decision_is_promised_once_and_kept_once(base: Path) -> None:
    store = Store(base, ROOMY)
    first = store.begin(decision(), METADATA, STATUS, time.time())
    assert store.begin(decision(), METADATA, STATUS, time.time() + 5) is first
    drive(store, chosen(base))
    assert store.begin(decision(), METADATA, STATUS, time.time() + 9).name == first.name
    assert drive(store, chosen(base)) == []
    store.stop(0)
    again = Store(base, ROOMY)
    assert again.begin(decision(), METADATA, STATUS, time.time() + 99).name == first.name
    assert [(e.state, e.name) for e in again.pump(time.time(), nothing)] == [("published", first.name)]
    assert [s.name for s in list_snapshots(base)] == [first.name]


def test_what_was_told_is_forgotten_only_at_the_next_pump(base: Path) -> None:
    store = Store(base, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    [told] = drive(store, chosen(base))
    restarted = Store(base, ROOMY)  # as after a kill before the daemon wrote its event
    assert [(e.state, e.id, e.name, e.bytes) for e in restarted.recover()] == [("published", told.id, told.name, told.bytes)]
    assert not restarted.busy
    restarted.pump(time.time(), nothing)
    assert Store(base, ROOMY).recover() == []


def test_two_snapshots_of_one_second_and_reason_get_a_number(base: Path) -> None:
    store = Store(base, ROOMY)
    now = time.time()
    for name in ("a", "b", "c"):
        store.begin(decision(name), METADATA, STATUS, now)
    names = [e.name for e in drive(store, chosen(base))]
    assert names == [names[0], f"{names[0]}_2", f"{names[0]}_3"]
    for name in names:
        assert json.loads((base / "snapshots" / name / "metadata.json").read_text())["snapshot_name"] == name


def test_a_foreign_directory_of_that_name_is_never_overwritten(base: Path) -> None:
    store = Store(base, ROOMY)
    intent = store.begin(decision(), METADATA, STATUS, time.time())
    (base / "snapshots" / intent.name).mkdir(parents=True)
    [event] = drive(store, chosen(base))
    assert event.name == f"{intent.name}_2"
    assert list((base / "snapshots" / intent.name).iterdir()) == []


def test_without_a_checkpoint_and_without_a_status_the_metadata_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, ROOMY)
    store.begin(decision(), METADATA, None, time.time())
    [event] = drive(store, nothing)
    document = json.loads((tmp_path / "snapshots" / event.name / "metadata.json").read_text())
    assert document["checkpoint"] is None
    assert [m.get("what") or m.get("path") for m in document["missing"]] == ["checkpoint", "training_status.json"]
    assert all(m["why"] for m in document["missing"])
    assert verify(tmp_path / "snapshots" / event.name) == []


def test_a_checkpoint_still_being_written_is_waited_for_and_then_taken(base: Path) -> None:
    asked = 0

    def choose(intent: Intent) -> Choice:
        nonlocal asked
        asked += 1
        return Choice(wait="checkpoint-900 is being written") if asked < 3 else chosen(base)(intent)

    store = Store(base, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    [event] = drive(store, choose, speed=20)
    assert (event.state, asked, event.missing) == ("published", 3, ())


def test_the_wait_ends_and_what_was_waited_for_is_named(base: Path) -> None:
    store = Store(base, dataclasses.replace(ROOMY, checkpoint_wait=30.0))
    store.begin(decision(), METADATA, STATUS, time.time())
    events = drive(store, lambda _: Choice(wait="checkpoint-900 is being written"), speed=200)
    assert [e.state for e in events] == ["published"]
    assert {"what": "checkpoint", "why": "checkpoint-900 is being written"} in events[0].missing


def test_an_intent_that_waits_does_not_hold_up_the_next(base: Path) -> None:
    store = Store(base, ROOMY)
    store.begin(decision("waits"), METADATA, STATUS, time.time())
    store.begin(decision("goes"), METADATA, STATUS, time.time())
    choose: Callable[[Intent], Choice] = lambda i: Choice(wait="not yet") if "waits" in i.id else chosen(base)(i)  # noqa: E731
    events = drive(store, choose, speed=100)
    assert [e.id.rpartition(":")[2] for e in events] == ["goes", "waits"]


def test_space_is_kept_for_the_trainers_next_checkpoints(base: Path) -> None:
    store = Store(base, dataclasses.replace(ROOMY, min_free_gb=1e6))
    store.begin(decision(), METADATA, STATUS, time.time())
    events = drive(store, chosen(base), speed=100)
    assert [e.state for e in events] == ["failed", "published"]
    assert "must stay free" in events[0].why
    document = json.loads((base / "snapshots" / events[1].name / "metadata.json").read_text())
    [reason] = [m["why"] for m in document["missing"] if m.get("what") == "checkpoint"]
    assert "must stay free" in reason
    assert tree(base / "snapshots" / events[1].name) == ["SHA256SUMS", "metadata.json", "training_status.json"]


def test_stopping_lets_a_copy_end_or_abandons_it_without_a_trace(base: Path) -> None:
    slow = dataclasses.replace(ROOMY, copy_rate_mb=0.001)
    store = Store(base, slow)
    store.begin(decision(), METADATA, STATUS, time.time())
    store.pump(time.time(), chosen(base))
    until(lambda: bool(list(base.glob("snapshots/.partial-*/model"))))
    began = time.monotonic()
    store.stop(0.3)
    assert time.monotonic() - began > 0.2
    assert list_snapshots(base) == []
    assert [] == list(base.glob("snapshots/.partial*"))
    patient = Store(base, ROOMY)
    patient.pump(time.time(), chosen(base))
    patient.stop(20)
    assert [e.state for e in patient.pump(time.time(), nothing)] == ["published"]
    assert len(list_snapshots(base)) == 1


def test_pumping_never_waits_for_the_worker(base: Path) -> None:
    store = Store(base, dataclasses.replace(ROOMY, copy_rate_mb=0.02))
    store.begin(decision(), METADATA, STATUS, time.time())
    found = complete(base)
    spans, began = list[float](), time.monotonic()
    while store.busy:
        before = time.monotonic()
        store.pump(time.time(), lambda _: Choice(checkpoint=found))
        spans.append(time.monotonic() - before)
        time.sleep(0.005)
    took = time.monotonic() - began
    assert len(spans) > 20
    assert sum(sorted(spans)[:-3]) < took / 4  # all but a few, when the machine was busy with others


def test_an_intent_of_nonsense_is_set_aside_and_told(base: Path) -> None:
    folder = base / ".smart_monitor" / "intents"
    folder.mkdir(parents=True)
    for name, text in {"a": "{", "b": '{"schema": 7}', "c": "[]", "d": '{"schema": 1, "id": 3, "status": null}'}.items():
        (folder / f"{name}.json").write_text(text)
    store = Store(base, ROOMY)
    told = store.recover()
    assert [e.state for e in told] == ["failed"] * 4
    assert all("set aside" in e.why for e in told)
    assert sorted(os.listdir(folder)) == ["a.unusable", "b.unusable", "c.unusable", "d.unusable"]
    assert not store.busy


def test_a_checkpoint_noun_that_names_files_outside_itself_is_refused(base: Path) -> None:
    found = complete(base)
    assert found is not None
    stamp = dataclasses.replace(found.files[0], path="../../escape")
    store = Store(base, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    bad = dataclasses.replace(found, files=(stamp,))
    events = drive(store, lambda _: Choice(checkpoint=bad), speed=100)
    assert [e.state for e in events] == ["failed", "published"]
    assert "outside itself" in events[0].why


@pytest.mark.parametrize(
    ("step", "onset", "at", "resume", "suspect"),
    [
        (600, 590, 500, "checkpoint-500", [501, 600]),
        (600, 590, 595, None, [590, 600]),
        (600, None, 500, "checkpoint-500", [501, 600]),
        (600, 590, None, None, [590, 600]),
        (None, None, 500, None, None),
    ],
)
def test_the_rollback_says_where_to_resume_and_which_steps_to_suspect(
    tmp_path: Path, step: int | None, onset: int | None, at: int | None, resume: str | None, suspect: list[int] | None
) -> None:
    hf_checkpoint(tmp_path, 500)
    found = complete(tmp_path)
    assert found is not None
    told = rollback({"step": step, "onset_step": onset, "reason": "nan"}, Choice(checkpoint=dataclasses.replace(found, step=at)))
    assert told is not None
    assert (told["resume_from"], told["suspect_steps"]) == (resume, suspect)
    assert told["text"].endswith(".")
    assert rollback({"step": 5, "reason": "best_model_loss_0.6321"}, Choice(checkpoint=found)) is None


def test_what_is_held_waits_for_room_instead_of_being_published_without_its_checkpoint(base: Path) -> None:
    store = Store(base, dataclasses.replace(ROOMY, min_free_gb=1e9))
    store.begin(decision(), METADATA, STATUS, time.time(), Needs(hold="checkpoint-500"))
    [told] = drive(store, chosen(base), speed=60)
    assert ("failed", True) == (told.state, told.why.endswith("; the checkpoint is held, and copied once there is room"))
    store.stop(0)
    again = Store(base, ROOMY)  # the next start, with room
    assert 1 == len(again.open)
    events = list[StoreEvent]()
    until(lambda: bool(events.extend(again.pump(time.time() + 3600, chosen(base))) or events))
    assert ["published"] == [e.state for e in events]
    [kept] = list_snapshots(base)
    assert ("checkpoint-500", []) == (kept.checkpoint, verify(kept.path))
    again.stop(0)


def test_that_a_copy_waits_for_room_is_said_before_it_has_been_tried_for_a_minute(base: Path) -> None:
    store = Store(base, dataclasses.replace(ROOMY, min_free_gb=1e9))
    store.begin(decision(), METADATA, STATUS, time.time(), Needs(hold="checkpoint-500"))
    told = list[StoreEvent]()
    begun = time.time()

    def tries(later: float, count: int) -> bool:
        told.extend(store.pump(begun + later, chosen(base)))
        return store.open[0].tries == count

    until(lambda: tries(0, 1))
    assert [] == told  # holds are given back meanwhile, and that may do
    until(lambda: tries(3, 2))
    until(lambda: bool(told.extend(store.pump(begun + 3, chosen(base))) or told))
    assert [("failed", True)] == [(e.state, "the checkpoint is held" in e.why) for e in told]
    store.stop(0)


def test_a_model_file_that_is_the_checkpoint_itself_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "current_model").mkdir()
    weights = tmp_path / "current_model" / "model.safetensors"
    weights.write_bytes(safetensors_bytes())
    (tmp_path / "current_model" / "config.json").write_text("{}")
    beside = Beside(tmp_path)
    beside.look(later=2)
    holds = beside.holds.complete or beside.copied()  # no link holds what its trainer may overwrite in place
    choice = Choice(checkpoint=beside.holds.noun(holds[0]), model=beside.shelf.model_files())
    store = Store(tmp_path, ROOMY)
    store.begin(decision("whole"), METADATA, STATUS, time.time())
    [whole] = drive(store, lambda _: choice)
    assert ["model/config.json", "model/model.safetensors"] == [f for f in tree(store.snapshots / whole.name) if "/" in f]
    weights.write_bytes(safetensors_bytes(2048))
    store.begin(decision("another"), METADATA, STATUS, time.time())
    [another] = drive(store, lambda _: dataclasses.replace(choice, model=beside.shelf.model_files()))
    assert ((), ["model/model.safetensors"]) == (whole.missing, [m["path"] for m in another.missing])
    store.stop(0)


def test_what_a_kill_left_of_a_promise_being_written_is_cleared_away_at_the_next_start(base: Path) -> None:
    store = Store(base, ROOMY)
    store.begin(decision(), METADATA, STATUS, time.time())
    [promise] = (base / ".smart_monitor" / "intents").iterdir()
    torn = promise.with_name(f"20260101_000000-{'0' * 24}.tmp")
    torn.write_bytes(promise.read_bytes()[:100])
    foreign = promise.with_name("notes.tmp")
    foreign.write_text("not ours")
    assert 1 == len(Store(base, ROOMY).open)
    assert {promise, foreign} == set(promise.parent.iterdir())
