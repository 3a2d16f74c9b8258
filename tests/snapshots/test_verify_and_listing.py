"""A snapshot is read again byte by byte, and listed from what stands there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smart_monitor.snapshots.listing import find, list_snapshots
from smart_monitor.snapshots.store import Store
from smart_monitor.snapshots.verify import Problem, verify
from tests.checkpoints.trees import hf_checkpoint
from tests.snapshots.runs import ROOMY, snapshot

WEIGHTS = "model/checkpoint-500/model.safetensors"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    hf_checkpoint(tmp_path / "current_model", 500)
    return snapshot(tmp_path, tmp_path)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found_and_its_file_named(path: Path, data: st.DataObject) -> None:
    files = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(files))
    whole = (path / name).read_bytes()
    at = data.draw(st.integers(0, len(whole) * 8 - 1))
    torn = bytearray(whole)
    torn[at // 8] ^= 1 << at % 8
    (path / name).write_bytes(torn)
    try:
        problems = verify(path)
        assert problems
        if name != "SHA256SUMS":  # there a flipped digest is told of the file that it belongs to
            assert name in {p.path for p in problems}
    finally:
        (path / name).write_bytes(whole)
        assert verify(path) == []


def test_a_missing_an_extra_and_a_cut_off_file_are_named(path: Path) -> None:
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-1])
    (path / "model" / "extra").write_text("")
    (path / "training_status.json").unlink()
    assert [p.path for p in verify(path)] == ["model/checkpoint-500/model.safetensors", "model/extra", "training_status.json"]


def test_a_file_replaced_by_a_link_or_a_fifo_is_no_file(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).symlink_to("/etc/hostname")
    os.mkfifo(path / "fifo")
    assert Problem(WEIGHTS, "it is not a regular file") in verify(path)
    assert Problem("fifo", "it is not a regular file") in verify(path)


@pytest.mark.parametrize("name", ["metadata.json", "SHA256SUMS"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\n", b'{"files": 3}', None])
def test_unusable_metadata_or_checksums_are_a_problem_and_nothing_is_raised(path: Path, name: str, content: bytes | None) -> None:
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    assert name in {p.path for p in verify(path)}


def test_checksums_that_name_a_file_outside_are_not_followed(path: Path) -> None:
    with open(path / "SHA256SUMS", "ab") as file:
        file.write(b"0" * 64 + b"  ../../../etc/passwd\n")
    assert [p.path for p in verify(path)] == ["SHA256SUMS"]


def test_no_snapshot_is_one_problem(tmp_path: Path) -> None:
    assert verify(tmp_path / "nothing") == [Problem(".", "there is no such snapshot")]


def test_a_listing_tells_what_the_metadata_tells(path: Path, tmp_path: Path) -> None:
    [found] = list_snapshots(tmp_path)
    assert (found.name, found.path, found.reason, found.step) == (path.name, path, "loss_spike_37.8pct", 600)
    assert (found.kinds, found.checkpoint) == (("loss_spike",), "checkpoint-500")
    assert found.bytes == sum(
        p.stat().st_size for p in path.rglob("*") if p.is_file() and p.name not in ("metadata.json", "SHA256SUMS")
    )
    assert abs(found.time - path.stat().st_mtime) < 5


def test_one_deleted_by_hand_is_simply_gone(path: Path, tmp_path: Path) -> None:
    shutil.rmtree(path)
    assert list_snapshots(tmp_path) == []
    store = Store(tmp_path, ROOMY)
    assert (store.recover(), store.busy, store.sweep()) == ([], False, [])


@pytest.mark.parametrize("gone", ["metadata.json", "SHA256SUMS", WEIGHTS])
def test_foreign_and_half_deleted_ones_are_not_listed(path: Path, tmp_path: Path, gone: str) -> None:
    snapshots = tmp_path / "snapshots"
    (snapshots / "notes").mkdir()
    (snapshots / "anomaly_by_hand").mkdir()
    (snapshots / "anomaly_20260101_000000_file").write_text("")
    (snapshots / "anomaly_20260101_000000_link").symlink_to(path)
    assert [s.name for s in list_snapshots(tmp_path)] == [path.name]
    (path / gone).unlink()
    assert list_snapshots(tmp_path) == []


def test_a_snapshot_is_found_by_its_name_or_a_unique_prefix(path: Path, tmp_path: Path) -> None:
    second = snapshot(tmp_path, tmp_path, "two", "nan_detected")
    assert find(tmp_path, path.name).path == path
    assert find(tmp_path, second.name[:-2]).path == second
    with pytest.raises(LookupError, match="fits 2 snapshots"):
        find(tmp_path, "anomaly_")
    for name in ("nothing", ""):
        with pytest.raises(LookupError, match="no snapshot is called"):
            find(tmp_path, name)
