"""What every layout owes, found by discovery: a new one is held to this by being there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smart_monitor.checkpoints import Layout, layouts
from smart_monitor.checkpoints.candidate import Budget, Folder, look
from smart_monitor.checkpoints.shelf import Shelf
from tests.checkpoints.trees import hdf5_bytes, safetensors_bytes, torch_bytes

FOLDERS = [
    "checkpoint-1",
    "checkpoint-best",
    "tmp-checkpoint-2",
    "step_3",
    "final",
    "epoch=1",
    "checkpoint-",
    "x\nstep_4",
    "-step_5",
    "global_step6",
    "iter_0000007",
    "8.orbax-checkpoint-tmp",
    "9",
    "epoch=1-step=2.ckpt",
    "checkpoint_3",
    "step-4",
    "out",
    "checkpoints",
]
FILES = [
    "model.safetensors", "m-00001-of-00002.safetensors", "model.safetensors.index.json", "trainer_state.json", "optimizer.pt",
    "ckpt.pt", "last.ckpt", "step_7.pth", "pytorch_model.bin", ".tmpabc", "x.tmp", "checkpoint-is-incomplete.txt", "config.json",
    ".metadata", "__0_0.distcp", "__1_0.distcp", "latest", "mp_rank_00_model_states.pt",
    "zero_pp_rank_1_mp_rank_00_optim_states.pt",
    "latest_checkpointed_iteration.txt", "common.pt", "metadata.json", "meta.pt", "_CHECKPOINT_METADATA",
    "model.keras", "m.weights.h5",
    "random_states_0.pkl", "lit_model.pth", "step_7-unfinished", "global_step99999999999999999999",
    os.fsdecode(b"model_\xff.pt"), "w\n.safetensors", "y" * 200 + ".safetensors",
]  # fmt: skip
CONTENTS = [
    b"",
    b"{}",
    b"{",
    b'{"weight_map": {"a": "../x", "b": 3}}',
    b'{"weight_map": []}',
    b"PK",
    safetensors_bytes(9),
    torch_bytes(9),
    hdf5_bytes(99),
    b"\x89HDF\r\n\x1a\n\0",
    b"\x80\4__9_9.distcp.",
    b"global_step6",
    b"dp_world_sizeK\xffmp_world_sizeM\xff\xff",
    b"[" * 5000,
    b'{"item_handlers": {"../..": 1, "\\n": 2}, "global_step": "x"}',
]
KINDS = ["file", "folder", "link", "loop", "fifo"]

entry = st.tuples(st.sampled_from(["", *FOLDERS]), st.sampled_from(FILES), st.sampled_from(CONTENTS), st.sampled_from(KINDS))


def build(root: Path, entries: list[tuple[str, str, bytes, str]]) -> None:
    for folder, name, content, kind in entries:
        path = root / folder / name
        path.parent.mkdir(exist_ok=True)
        if os.path.lexists(path):
            continue
        if kind == "file":
            path.write_bytes(content)
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to("../.." if kind == "link" else name)


@settings(deadline=None, max_examples=2 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
@given(entries=st.lists(entry, max_size=14))
def test_no_tree_makes_a_layout_raise_and_what_is_missing_is_said_in_words(entries: list[tuple[str, str, bytes, str]]) -> None:
    top = Path(tempfile.mkdtemp())
    root = top / "so" / "deep"  # that the links end in a tree of ours and not in all of the machine
    root.mkdir(parents=True)
    try:
        build(root, entries)
        for layout in layouts():
            for candidate in layout.find(Folder.read(root)):
                assert (candidate.path.parent, candidate.folder) == (root, root)
                candidate.tree = look(candidate.path, candidate.single, Budget(), 0.0)
                for clause in layout.missing(candidate):
                    assert len(clause.split()) >= 2
                    assert clause.isprintable()
                assert len(layout.proof(candidate).split()) >= 3
        shelf = Shelf(root)
        for now in (0.0, 10.0):
            shelf.scan(now)
            for checkpoint in shelf.complete():
                assert checkpoint.files
            assert all(s.isprintable() for s in shelf.incomplete(0.0))
        shelf.model_files()
    finally:
        shutil.rmtree(top)


def test_every_layout_has_its_own_name_and_is_found() -> None:
    found = [layout.name for layout in layouts()]
    assert {"hf_trainer", "safetensors_files", "torch_files"} <= set(found)
    assert len(found) == len(set(found))
    assert all(isinstance(layout, Layout) for layout in layouts())
    assert [layout.turn for layout in layouts()] == sorted(layout.turn for layout in layouts())


def test_a_directory_that_can_not_be_listed_is_an_os_error_for_the_shelf(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Folder.read(tmp_path / "nothing")
