"""What is sent stands there whole and proven, nothing is sent twice, nothing of another's is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.remote import records
from smart_monitor.snapshots.remote.place import BLOCK, Remote, Tags
from smart_monitor.snapshots.remote.upload import Upload
from smart_monitor.snapshots.verify import verify
from tests.snapshots.remote.rig import content, fetched, moved, put, send, snapshot_in

MODEL = "model/checkpoint-500/model.safetensors"


def flip(data: bytes) -> bytes:
    """Of the same length, with one bit another."""
    return bytes([data[0] ^ 1]) + data[1:]


def test_a_finished_snapshot_stands_at_the_remote_byte_for_byte(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path)

    result, told = send(tmp_path, url)
    there = fetched(url, f"llama 7b/{here.name}", tmp_path / "back" / here.name)

    assert result == {"result": "done"}
    assert verify(there) == []
    assert (there / sums.NAME).read_bytes() == (here / sums.NAME).read_bytes()
    assert [m["sent"] for m in told if "sent" in m] == [here.name]
    assert records.waiting(tmp_path, url) == ([], {})


def test_an_object_of_many_parts_is_proven_by_the_stores_own_checksum_or_by_reading_it_back(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path, size=2 * BLOCK + 12345)

    result, told = send(tmp_path, url)

    expected = "the store's own checksums" if url.startswith("s3") else "reading it back"
    assert (result, [m["proof"] for m in told if "sent" in m]) == ({"result": "done"}, [expected])
    assert content(url, f"llama 7b/{here.name}/{MODEL}") == (here / MODEL).read_bytes()


def test_what_stands_there_is_not_sent_again(tmp_path: Path, url: str):
    snapshot_in(tmp_path)
    send(tmp_path, url)

    assert send(tmp_path, url)[0] == {"result": "done"}
    shutil.rmtree(records.folder_of(tmp_path))  # the records are a cache: the truth stands at the remote
    result, told = send(tmp_path, url)

    assert result == {"result": "done"}
    assert moved(told) == 0
    assert [m["bytes"] > 0 for m in told if "sent" in m] == [True]


def test_a_file_that_vanished_there_is_sent_again_and_only_that_one(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path)
    send(tmp_path, url)
    remote = Remote(url, {})
    remote._fs.rm_file(remote._path(f"llama 7b/{here.name}/{MODEL}"))

    result, told = send(tmp_path, url, names=[here.name])

    assert result == {"result": "done"}
    assert moved(told) == (here / MODEL).stat().st_size
    assert content(url, f"llama 7b/{here.name}/{MODEL}") == (here / MODEL).read_bytes()


class Watched(Remote):
    """Notes the order of what is put, and may fail once a name comes."""

    def __init__(self, url: str, until: str = "") -> None:
        super().__init__(url, {})
        self.order: list[str] = []
        self._until = until

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        if self._until and name.endswith(self._until):
            raise TimeoutError("the network is down")
        super().put(name, pieces, size)
        self.order.append(name)


def upload(out: Path, here: Path, remote: Remote) -> None:
    record = records.record_of(out, remote.url, here.name, records.digest_of(here))
    Upload(here, here.name, remote, record, Pace(0, lambda _: None)).perform()


def test_the_manifest_is_put_last(tmp_path: Path, url: str):
    here, remote = snapshot_in(tmp_path), Watched(url)

    upload(tmp_path, here, remote)

    assert remote.order[-2:] == [f"{here.name}/metadata.json", f"{here.name}/SHA256SUMS"]
    assert len(remote.order) == len(sums.parse((here / sums.NAME).read_bytes())) + 1


def test_an_upload_broken_off_is_gone_on_with(tmp_path: Path, url: str):
    here, first, second = snapshot_in(tmp_path), Watched(url, "metadata.json"), Watched(url)
    with pytest.raises(TimeoutError):
        upload(tmp_path, here, first)

    upload(tmp_path, here, second)

    assert len(first.order) > 2
    assert second.order == [f"{here.name}/metadata.json", f"{here.name}/SHA256SUMS"]


def test_a_wrong_digest_there_is_found_and_what_is_right_sent_again(tmp_path: Path, url: str):
    here, first, second = snapshot_in(tmp_path), Watched(url, "metadata.json"), Watched(url)
    with pytest.raises(TimeoutError):
        upload(tmp_path, here, first)
    put(url, f"{here.name}/{MODEL}", flip((here / MODEL).read_bytes()))  # the same size

    upload(tmp_path, here, second)

    assert second.order[0] == f"{here.name}/{MODEL}"
    assert content(url, f"{here.name}/{MODEL}") == (here / MODEL).read_bytes()


def test_a_flipped_bit_under_a_standing_manifest_is_found_when_every_byte_is_read_again(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path)
    send(tmp_path, url)
    put(url, f"llama 7b/{here.name}/{MODEL}", flip((here / MODEL).read_bytes()))

    assert moved(send(tmp_path, url, names=[here.name])[1]) == 0  # a quick look does not see it
    result, told = send(tmp_path, url, names=[here.name], thorough=True)

    assert (result, moved(told)) == ({"result": "done"}, (here / MODEL).stat().st_size)
    assert content(url, f"llama 7b/{here.name}/{MODEL}") == (here / MODEL).read_bytes()


def test_anothers_object_of_the_same_name_is_refused_and_said_and_only_replaced_when_asked(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path)
    put(url, f"llama 7b/{here.name}/{MODEL}", b"another's")

    result, told = send(tmp_path, url)
    [why] = [m["why"] for m in told if "refused" in m]

    assert result == {"result": "done"}
    assert why == f"{url}/llama 7b/{here.name}/{MODEL} has other content and is not known to be ours; it is not overwritten"
    assert content(url, f"llama 7b/{here.name}/{MODEL}") == b"another's"
    assert content(url, f"llama 7b/{here.name}/{sums.NAME}") is None
    assert records.waiting(tmp_path, url) == ([], {here.name: why})
    assert send(tmp_path, url, names=[here.name], overwrite=True)[0] == {"result": "done"}
    assert content(url, f"llama 7b/{here.name}/{MODEL}") == (here / MODEL).read_bytes()


def test_another_snapshot_of_the_same_name_is_left_alone(tmp_path: Path, url: str):
    here = snapshot_in(tmp_path)
    put(url, f"llama 7b/{here.name}/{sums.NAME}", b"0" * 64 + b"  theirs\n")

    _, told = send(tmp_path, url)

    assert [m["why"] for m in told if "refused" in m] == [
        f"{url}/llama 7b/{here.name}/{sums.NAME} is another snapshot's; it is not overwritten"
    ]
    assert content(url, f"llama 7b/{here.name}/{MODEL}") is None


@pytest.mark.parametrize("size", [1024, 2 * BLOCK])
def test_a_file_that_rotted_here_is_never_sent_as_good(tmp_path: Path, url: str, size: int):
    here = snapshot_in(tmp_path, size=size)
    good = (here / MODEL).read_bytes()
    (here / MODEL).write_bytes(flip(good))

    _, told = send(tmp_path, url)

    assert [m["why"] for m in told if "refused" in m] == [
        f"it is damaged here and is not sent: {MODEL} is no longer what SHA256SUMS says"
    ]
    assert content(url, f"llama 7b/{here.name}/{MODEL}") is None
    assert content(url, f"llama 7b/{here.name}/metadata.json") is None
    (here / MODEL).write_bytes(good)
    assert send(tmp_path, url, names=[here.name])[0] == {"result": "done"}


def test_a_snapshot_deleted_while_it_waits_is_passed_over(tmp_path: Path, url: str):
    gone, stays = snapshot_in(tmp_path), snapshot_in(tmp_path, "two", "nan")
    shutil.rmtree(gone)

    result, told = send(tmp_path, url, names=[gone.name, stays.name])

    assert result == {"result": "done"}
    assert [m["sent"] for m in told if "sent" in m] == [stays.name]


def test_what_is_sent_to_a_directory_is_private(tmp_path: Path):
    here, before = snapshot_in(tmp_path), os.umask(0o077)
    try:
        send(tmp_path, f"file://{tmp_path}/far")
    finally:
        os.umask(before)

    assert (tmp_path / "far" / "llama 7b" / here.name / MODEL).stat().st_mode & 0o777 == 0o600


def test_a_remote_in_the_runs_own_directory_is_refused(tmp_path: Path):
    snapshot_in(tmp_path)

    result, _ = send(tmp_path, f"file://{tmp_path}/run/current_model/copies", theirs=[str(tmp_path / "run")])

    assert result == {"result": "failed", "why": "the remote lies in the run's own directory"}
    assert not (tmp_path / "run" / "current_model" / "copies").exists()


def test_the_checksum_of_parts_is_the_one_that_s3_documents():
    import hashlib

    block, data = 4, b"abcdefghij"
    tags = Tags(block)
    for i in range(0, len(data), 2):
        tags.update(data[i : i + 2])
    parts = b"".join(hashlib.md5(data[i : i + block]).digest() for i in range(0, len(data), block))

    assert tags.match(f"{hashlib.md5(parts).hexdigest()}-3")
    assert tags.match(hashlib.md5(data).hexdigest())
    assert not tags.match(hashlib.md5(data[:-1]).hexdigest())
