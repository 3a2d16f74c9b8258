"""Whole files are recognised, damaged ones named, at every length."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smart_monitor.checkpoints.candidate import step_in
from smart_monitor.checkpoints.checks import file_problem, json_object
from smart_monitor.checkpoints.content import absent_shards
from smart_monitor.checkpoints.mounts import is_network
from tests.checkpoints.trees import safetensors_bytes, torch_bytes

WHOLE = {"x.safetensors": safetensors_bytes(500), "x.pt": torch_bytes(500)}
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_what_the_safetensors_package_writes_is_whole(tmp_path: Path) -> None:
    data = ctypes.create_string_buffer(b"\7" * 1024, 1024)
    spec = safetensors.TensorSpec(dtype="float32", shape=[256], data_ptr=ctypes.addressof(data), data_len=1024)
    safetensors.serialize_file({"w": spec}, str(tmp_path / "w.safetensors"))
    assert file_problem(tmp_path / "w.safetensors") == ""
    assert [n for n, _ in safetensors.deserialize(safetensors_bytes(100))] == ["w"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_has_no_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    assert file_problem(tmp_path / name) == ""


@relaxed
@given(data=st.data(), name=st.sampled_from(sorted(WHOLE)))
def test_a_file_cut_off_anywhere_or_continued_has_one(tmp_path: Path, data: st.DataObject, name: str) -> None:
    whole = WHOLE[name]
    cut = data.draw(st.integers(0, len(whole) - 1))
    extra = data.draw(st.binary(max_size=30))
    torn = whole[:cut] if not extra else whole + extra
    (tmp_path / name).write_bytes(torn)
    # A single "P" could still become anything, and torch files of the old format are no archives.
    if not (name == "x.pt" and 0 < len(torn) < 2):
        assert file_problem(tmp_path / name) != ""


@relaxed
@given(content=st.binary(max_size=300))
def test_arbitrary_content_never_raises(tmp_path: Path, content: bytes) -> None:
    for name in ("a.safetensors", "a.pt", "a.bin"):
        (tmp_path / name).write_bytes(content)
        assert isinstance(file_problem(tmp_path / name), str)
    (tmp_path / "a.json").write_bytes(content)
    assert json_object(tmp_path / "a.json") is None or content.strip().startswith(b"{")


@pytest.mark.parametrize(
    "header", [b'{"w": 1}', b"[]", b'{"w": {"data_offsets": "ab"}}', b"[" * 5000, b'{"w":{"data_offsets":[0,1e400]}}']
)
def test_a_header_of_nonsense_is_named_and_never_raises(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert file_problem(tmp_path / "a.safetensors") != ""


def test_an_archive_with_a_comment_and_an_old_torch_file_are_whole(tmp_path: Path) -> None:
    whole = torch_bytes()
    (tmp_path / "a.pt").write_bytes(whole[:-2] + b"\x05\x00hello")
    (tmp_path / "b.pt").write_bytes(b"\x80\x02 of the old format")
    assert (file_problem(tmp_path / "a.pt"), file_problem(tmp_path / "b.pt")) == ("", "")


@pytest.mark.parametrize(
    ("stem", "step"),
    [
        ("step_1000", 1000), ("step-1000", 1000), ("global_step1000", 1000), ("iter_0000123", 123), ("epoch=3-step=400", 400),
        ("epoch-7", 7), ("lora-000010", 10), ("model_1000", 1000), ("checkpoint_5", 5), ("model", None), ("ckpt", None),
        ("model-00001-of-00002", None), ("Qwen2.5-7b", None), ("best", None), ("last-v1", None), ("1" * 200, None),
    ],
)  # fmt: skip
def test_the_step_is_read_from_a_name(stem: str, step: int | None) -> None:
    assert step == step_in(stem)


def test_absent_shards_are_named_as_their_siblings_are() -> None:
    names = {"m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors", "z-00000-of-00002.bin", "a/b-00002-of-00002.bin"}
    assert sorted(absent_shards(names)) == ["a/b-00001-of-00002.bin", "m-00002-of-00003.safetensors", "z-00001-of-00002.bin"]


def test_network_file_systems_are_told_from_local_ones_by_the_longest_mount_point(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:50 / /data rw,relatime shared:1 - nfs4 server:/x rw\n"
        "31 30 0:51 / /data/local\\040disk rw - xfs /dev/vdb rw\n"
        "32 22 0:52 / /bucket rw - fuse.s3fs s3fs rw\n"
    )
    asked = ["/data/run", "/data/local disk/run", "/datax", "/bucket", "/home"]
    assert [is_network(Path(p), str(table)) for p in asked] == [True, False, False, True, False]
    assert not is_network(tmp_path, str(tmp_path / "nothing"))
