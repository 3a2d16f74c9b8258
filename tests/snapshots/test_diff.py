"""What differs between two snapshots is named: words, files, tensors; what is equal is only counted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from smart_monitor.snapshots.diff import diff
from smart_monitor.snapshots.headers import read_header
from tests.snapshots.made import NOW, made


def tensors(**shapes: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file of tensors name -> (dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, content) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = {"a": ("F32", [2], b"12345678"), "b": ("U8", [3], b"xyz"), "c": ("U8", [1], b"1"), "d": ("U8", [2], b"ab")}
TWO = {"a": ("F16", [4], b"12345678"), "b": ("U8", [3], b"xyZ"), "d": ("U8", [2], b"ab"), "e": ("U8", [1], b"1")}


def pair(tmp_path: Path) -> tuple[Path, Path]:
    one = {
        "model/checkpoint-100/model.safetensors": tensors(**ONE),
        "model/checkpoint-100/config.json": b"{}",
        "model/gone": b"1",
    }
    two = {
        "model/checkpoint-200/model.safetensors": tensors(**TWO),
        "model/checkpoint-200/config.json": b"{}",
        "model/new": b"12",
    }
    return made(tmp_path, files=one, step=100), made(tmp_path, "stall", at=NOW + 9, files=two, step=200)


def test_a_snapshot_does_not_differ_from_itself(tmp_path: Path) -> None:
    path = made(tmp_path)
    found = diff(path, path, values=True)
    assert not found
    assert 2 == found.same


def test_words_files_and_tensors_that_differ_are_named_whatever_step_they_are_of(tmp_path: Path) -> None:
    found = diff(*pair(tmp_path))
    assert {"reason": ("nan", "stall"), "step": (100, 200), "onset_step": (90, 190)} == {
        f.name: (f.before, f.after) for f in found.fields if not f.name.startswith("checkpoint")
    }
    assert ["model/<checkpoint>/model.safetensors", "model/gone", "model/new", "training_status.json"] == [
        f.path for f in found.files
    ]
    assert ["changed", "removed", "added", "changed"] == [f.what for f in found.files]
    assert [(1, None), (None, 2)] == [(f.before, f.after) for f in found.files[1:3]]
    assert 1 == found.same
    weights = found.files[0]
    assert [
        ("a", "changed", "F32 [2]", "F16 [4]"),
        ("c", "removed", "U8 [1]", ""),
        ("e", "added", "", "U8 [1]"),
    ] == weights.tensors
    assert 2 == weights.same


def test_values_are_compared_when_they_are_asked_for(tmp_path: Path) -> None:
    read: list[int] = []
    [weights, *_] = diff(*pair(tmp_path), values=True, passed=read.append).files
    assert ("b", "values", "U8 [3]", "U8 [3]") in weights.tensors
    assert 1 == weights.same
    assert 2 * (3 + 2) == sum(read)


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    one = made(tmp_path, monitor={"version": "1", "config": {"loss_window": 10, "poll_interval": 1}})
    two = made(tmp_path, at=NOW + 9, monitor={"version": "2", "config": {"loss_window": 20, "poll_interval": 1}})
    assert [("setting loss_window", 10, 20)] == diff(one, two).fields


HEADERS = {
    "empty": b"", "short": b"\x08\0\0", "longer than the file": struct.pack("<Q", 99) + b"{}", "huge": b"\xff" * 8 + b"{}",
    "no JSON": struct.pack("<Q", 2) + b"{]", "a list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 99999) + b"[" * 99999,
    "bytes outside": tensors(a=("U8", [1], b"1"))[:-1], "no shape": struct.pack("<Q", 8) + b'{"a":{}}',
    "words for offsets": (lambda t: struct.pack("<Q", len(t)) + t)(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":["0","1"]}}1'),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_can_not_be_used_is_said_and_the_rest_compared(tmp_path: Path, kind: str) -> None:
    one = made(tmp_path, files={"model/checkpoint-100/m.safetensors": HEADERS[kind], "model/x": b"1"})
    two = made(tmp_path, at=NOW + 9, files={"model/checkpoint-100/m.safetensors": tensors(**ONE), "model/x": b"1"})
    with pytest.raises(ValueError):
        read_header(one / "model/checkpoint-100/m.safetensors")
    for found in (diff(one, two), diff(two, one, values=True)):
        assert found.files[0].why
        assert 2 == found.same


def test_metadata_that_names_files_outside_is_refused(tmp_path: Path) -> None:
    good, bad = made(tmp_path), made(tmp_path, at=NOW + 9)
    document = json.loads((bad / "metadata.json").read_text())
    document["files"][0]["path"] = "../../x"
    (bad / "metadata.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="names a file outside"):
        diff(good, bad)
