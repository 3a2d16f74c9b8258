"""Holds: taken when a checkpoint is whole, complete when its writer is done, gone when spoiled or given back."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from smart_monitor.checkpoints.candidate import Seen
from smart_monitor.model import FileStamp
from smart_monitor.snapshots import eager
from smart_monitor.snapshots.pin import Raced, pin
from tests.checkpoints.trees import hf_checkpoint, safetensors_bytes, torch_bytes
from tests.snapshots.holding import Beside, contents, theirs


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "current_model").mkdir()
    return tmp_path / "current_model"


def test_a_checkpoint_is_pinned_as_soon_as_it_is_whole_and_held_once_it_is_still(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100, files=3)
    before = theirs(model)
    assert [] == beside.look()
    assert beside.holds.growing
    [hold] = beside.look(later=2)
    assert before == theirs(model)
    shutil.rmtree(path)
    found = beside.holds.noun(hold)
    assert {p: c[5] for p, c in before.items() if c[5]} == {f"checkpoint-100/{p}": c for p, c in contents(found).items()}
    assert (100, str(path), "link") == (found.step, found.source, hold.how) or hold.how == "clone"
    assert (1, 1) == (beside.holds.met, beside.holds.kept)


def test_a_marker_that_is_not_there_yet_holds_nothing(model: Path) -> None:
    beside = Beside(model.parent)
    hf_checkpoint(model, 100, marker=False)
    assert [] == beside.look(later=2)
    assert not beside.holds.growing


def test_a_file_that_lands_after_the_marker_is_in_the_hold(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    (path / "rng_state_1.pth").write_bytes(torch_bytes(32))
    beside.look()
    [hold] = beside.look(later=2)
    assert "rng_state_1.pth" in contents(beside.holds.noun(hold))
    assert (1, 1) == (beside.holds.met, beside.holds.kept)


def test_the_writer_that_begins_the_next_checkpoint_is_done_with_this_one(model: Path) -> None:
    beside = Beside(model.parent)
    hf_checkpoint(model, 100, aged=0)
    assert [] == beside.look()
    time.sleep(0.2)
    (model / "checkpoint-200").mkdir()
    [hold] = beside.look()
    assert "checkpoint-100" == hold.checkpoint.name


def test_an_older_neighbour_with_a_higher_step_proves_nothing(model: Path) -> None:
    """A run resumed from an earlier step writes its checkpoints anew beside those of before."""
    hf_checkpoint(model, 200, aged=0)
    time.sleep(0.2)
    beside = Beside(model.parent)
    hf_checkpoint(model, 100, aged=0)
    beside.look()
    time.sleep(0.15)
    assert "checkpoint-100" not in [h.checkpoint.name for h in beside.look()]


def test_what_a_deletion_cut_short_has_left_does_not_replace_the_hold(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    [hold] = beside.look(later=2)
    (path / "config.json").unlink()  # the trainer is killed while it rotates; all that is left looks whole
    assert [] == beside.look(later=5)
    assert [hold] == beside.holds.complete
    assert (1, 1) == (beside.holds.met, beside.holds.kept)


def test_linking_does_not_make_a_still_checkpoint_restless(model: Path) -> None:
    beside = Beside(model.parent)
    hf_checkpoint(model, 100)
    beside.look()
    time.sleep(1.1)
    [hold] = beside.look()  # a link changes the ctime of what it links to
    beside.holds.give_back(hold)
    assert [hold.folder] != beside.emptied()
    beside.shelf.scan(time.time())
    assert ["checkpoint-100"] == [c.name for c in beside.shelf.complete()]


def test_what_is_rotated_before_it_is_known_to_be_complete_is_dropped_and_said(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    shutil.rmtree(path)
    assert [] == beside.look(later=2)
    assert ["checkpoint-100 was rotated away before it was known to be complete: its hold is dropped"] == beside.holds.said
    assert (1, 0) == (beside.holds.met, beside.holds.kept)
    assert [] == beside.emptied()


def test_what_vanishes_half_written_counts_as_seen_and_not_kept(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100, marker=False)
    beside.look()
    shutil.rmtree(path)
    beside.look()
    assert (1, 0) == (beside.holds.met, beside.holds.kept)


def test_a_rotation_that_takes_its_time_is_no_loss(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    beside.look(later=2)
    (path / "trainer_state.json").unlink()
    beside.look(later=2)
    shutil.rmtree(path)
    beside.look(later=2)
    assert (1, 1) == (beside.holds.met, beside.holds.kept)
    assert ["checkpoint-100"] == beside.names()


def test_a_hold_overwritten_in_place_is_noticed_dropped_and_said(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    [hold] = beside.look(later=2)
    if hold.how != "link":
        pytest.skip("this file system clones: a clone can't be overwritten by the trainer")
    weights = path / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as file:  # the same inode, the same size
        file.write(safetensors_bytes(1024, b"\x77")[:size])
    assert None is beside.holds.get(hold.folder)
    assert ["The hold on checkpoint-100 is dropped: model.safetensors was overwritten in place"] == beside.holds.said
    beside.look(later=2)
    [copy] = beside.copied()  # a link can't protect from such a writer, so from now on it is copied
    assert "copy" == copy.how
    assert contents(beside.holds.noun(copy))["model.safetensors"] == weights.read_bytes()


def test_a_file_overwritten_in_place_by_its_trainer_is_copied_after_each_write(model: Path) -> None:
    beside = Beside(model.parent)
    first, second = torch_bytes(300), torch_bytes(400)
    (model / "ckpt.pt").write_bytes(first)
    beside.look()
    beside.look(later=2)
    if not (copies := beside.copied()) and {"clone"} == {h.how for h in beside.holds.complete}:
        pytest.skip("this file system clones")
    (model / "ckpt.pt").write_bytes(second)
    beside.look(later=2)
    assert beside.holds.eager.busy  # not before the share of time that copying may take is over
    copies += beside.copied()
    assert [{".": first}, {".": second}] == [contents(beside.holds.noun(c)) for c in copies]
    assert (2, 2) == (beside.holds.met, beside.holds.kept)


def test_copying_one_again_and_again_takes_a_fifth_of_the_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        def __init__(self, job: object) -> None:
            pass

        def give_up(self, patience: float) -> bool:
            return False

        def poll(self) -> dict[str, str]:
            return {"result": "held"}

    monkeypatch.setattr(eager, "Worker", Done)
    hf_checkpoint(model, 100)
    beside = Beside(model.parent)
    beside.shelf.scan(time.time() + 2)
    [found] = beside.shelf.complete()
    copier = eager.Eager(str(beside.folder))
    copier.want(found)
    assert copier.pump(100.0, 0.0, None) is None
    assert copier.copying == found
    assert copier.pump(110.0, 0.0, None)
    copier.want(found)
    for mono, copying in ((110.1, None), (149.9, None), (150.1, found)):
        copier.pump(mono, 0.0, None)
        assert copying == copier.copying
    assert copier.pump(151.0, 0.0, None)  # its place is free again


def test_after_a_restart_complete_holds_are_taken_over_and_all_else_is_cleared(model: Path) -> None:
    beside = Beside(model.parent)
    path = hf_checkpoint(model, 100)
    beside.look()
    [hold] = beside.look(later=2)
    before = contents(beside.holds.noun(hold))
    shutil.rmtree(path)
    hf_checkpoint(model, 200)
    beside.look()  # killed while this one is growing
    (beside.folder / "hold-of-nothing").mkdir()
    (beside.folder / "foreign").write_text("x")
    other = beside.again()
    assert ["checkpoint-100"] == other.names()
    assert ["foreign", hold.folder] == other.emptied()
    assert before == contents(other.holds.noun(other.holds.complete[0]))
    assert hold.checkpoint.complete_by == other.holds.complete[0].checkpoint.complete_by


@pytest.mark.parametrize("change", ["overwrite", "replace", "delete", "lie", "nonsense", "escape"])
def test_a_hold_that_is_not_as_described_is_not_taken_over(model: Path, change: str) -> None:
    beside = Beside(model.parent)
    hf_checkpoint(model, 100)
    beside.look()
    [hold] = beside.look(later=2)
    kept = beside.folder / hold.folder / "files" / "model.safetensors"
    told = beside.folder / hold.folder / "hold.json"
    if change == "overwrite":
        kept.write_bytes(kept.read_bytes())
        os.utime(kept, (1, 1))
    elif change == "replace":
        content = kept.read_bytes()
        kept.unlink()
        kept.write_bytes(content)
    elif change == "delete":
        kept.unlink()
    elif change == "nonsense":
        told.write_text("[1, 2")
    else:
        document = json.loads(told.read_text())
        document["files"][0]["path"] = "../../escape" if change == "escape" else "other.bin"
        told.write_text(json.dumps(document))
    other = beside.again()
    assert [] == other.names()
    assert 1 == len(other.holds.said)
    assert [] == other.emptied()


def test_only_the_newest_are_held_at_first_contact(model: Path) -> None:
    for step in range(100, 1100, 100):
        path = hf_checkpoint(model, step, aged=5000 - step)
        os.utime(path)
    beside = Beside(model.parent)
    beside.look(later=2)
    assert ["checkpoint-800", "checkpoint-900", "checkpoint-1000"] == beside.names()


def test_what_a_wrong_clock_dated_into_the_future_makes_room_for_what_is_written_now(model: Path) -> None:
    for step in (100, 200, 300):
        hf_checkpoint(model, step, aged=-5 * 86400 - step)
    beside = Beside(model.parent, ring=2)
    beside.look()
    beside.look(later=2)
    assert beside.names() == ["checkpoint-200", "checkpoint-300"]
    for step in (400, 500):
        hf_checkpoint(model, step, aged=1000 - step)
        beside.look(later=2)
    assert beside.names() == ["checkpoint-200", "checkpoint-300", "checkpoint-400", "checkpoint-500"]


def test_files_that_tell_no_step_leave_the_ring_to_the_checkpoints_that_do(model: Path) -> None:
    beside = Beside(model.parent)
    for step in (100, 200, 300, 400):
        hf_checkpoint(model, step, aged=1000 - step)
        for name in ("best.pt", "last.pt", "model.pt"):
            (model / name).write_bytes(torch_bytes())
        beside.look(later=2)
        shutil.rmtree(model / f"checkpoint-{step}")
        beside.copied(paced=False)
    assert ["checkpoint-200", "checkpoint-300", "checkpoint-400"] == beside.names()[-3:]
    assert {"best.pt", "last.pt", "model.pt"} >= set(beside.names()[:-4])


def test_any_complete_one_can_be_secured_when_it_is_needed(model: Path) -> None:
    for step in (100, 200, 300, 400):
        hf_checkpoint(model, step, aged=5000 - step)
    beside = Beside(model.parent, ring=2)
    beside.look(later=2)
    old = next(c for c in beside.shelf.complete() if c.step == 100)
    hold = beside.holds.secure(old)
    assert hold is not None
    shutil.rmtree(model / "checkpoint-100")
    assert hold is beside.holds.get(hold.folder)
    assert contents(beside.holds.noun(hold))["config.json"] == b"{}"


def test_what_vanishes_or_changes_while_it_is_pinned_is_not_pinned(model: Path) -> None:
    hf_checkpoint(model, 100)
    beside = Beside(model.parent)
    beside.shelf.scan(time.time() + 2)
    [found] = beside.shelf.complete()
    into = model.parent / "into"
    cases = {
        "appeared": lambda: (Path(found.path) / "late.bin").write_text("x"),
        "overwritten": lambda: (Path(found.path) / "config.json").write_text("{} "),
        "vanished": (Path(found.path) / "optimizer.pt").unlink,
        "it vanished": lambda: shutil.rmtree(found.path),
    }
    for words, change in cases.items():
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        change()
        with pytest.raises(Raced, match=words):
            pin(found, str(into), clone=False)
        if words == "appeared":
            (Path(found.path) / "late.bin").unlink()
        elif words == "overwritten":
            beside.shelf.scan(time.time() + 2)
            [found] = beside.shelf.complete()


def test_what_is_written_on_while_it_is_pinned_is_counted_once(model: Path) -> None:
    path = hf_checkpoint(model, 100, aged=0)
    beside = Beside(model.parent)
    beside.shelf.scan(time.time())
    (path / "config.json").write_text("{} ")  # between the scan and the pinning
    assert [] == beside.holds.meet(beside.shelf.settling(), beside.shelf.unfinished())
    assert not beside.holds.growing
    beside.look()
    assert ["checkpoint-100"] == [h.checkpoint.name for h in beside.look(later=2)]
    assert (1, 1) == (beside.holds.met, beside.holds.kept)


def test_of_each_file_of_a_held_checkpoint_one_stamp_stays_in_memory_however_often_it_is_looked_at(model: Path) -> None:
    hf_checkpoint(model, 100, files=50)
    beside = Beside(model.parent)
    for later in (0, 2, 3, 4):
        beside.look(later)
    assert ["checkpoint-100"] == beside.names()
    gc.collect()
    if (hold := beside.holds.complete[0]).how == "clone":
        pytest.skip("a clone is another file, with a stamp of its own")
    inodes = {f.ino for f in hold.files}
    assert len(inodes) == sum(isinstance(o, FileStamp) and o.ino in inodes for o in gc.get_objects())
    assert not [o for o in gc.get_objects() if isinstance(o, Seen)]


def test_a_link_inside_a_checkpoint_is_held_as_its_target_and_one_that_leads_out_never(model: Path) -> None:
    path = hf_checkpoint(model, 100)
    (path / "inner.bin").symlink_to("optimizer.pt")
    secret = model.parent / "secret"
    secret.write_text("not yours")
    (path / "outer.bin").symlink_to(secret)
    beside = Beside(model.parent)
    beside.look()
    [hold] = beside.look(later=2)
    shutil.rmtree(path)
    held = contents(beside.holds.noun(hold))
    assert held["inner.bin"] == held["optimizer.pt"]
    assert "outer.bin" not in held
    assert ["outer.bin"] == [name for name, _ in hold.checkpoint.external]
    assert not list(beside.folder.rglob("outer.bin"))


def test_hostile_names_are_held_and_nothing_of_ours_bears_a_trainers_name(model: Path) -> None:
    name = "checkpoint_best\n..\u202e'\"$(x)"
    (model / "step_5").mkdir()
    (model / "step_5" / name).write_bytes(b"x" * 10)
    (model / "step_5" / "model.safetensors").write_bytes(safetensors_bytes())
    raw = os.fsencode(model / "step_5") + b"/\xff\xfe.bin"
    with open(raw, "wb") as file:
        file.write(b"raw")
    beside = Beside(model.parent)
    beside.look()
    [hold] = beside.look(later=2)
    shutil.rmtree(model / "step_5")
    other = beside.again()
    held = contents(other.holds.noun(other.holds.complete[0]))
    assert {b"x" * 10, b"raw"} < set(held.values())
    assert not [n for n in os.listdir(beside.folder) if n.startswith("checkpoint")]
    assert hold.folder in os.listdir(beside.folder)
