"""Names that are safe whatever the reason, and checksums that survive any name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smart_monitor.snapshots import names, sums

any_name = st.binary(min_size=1, max_size=60).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b".."))


@given(reason=st.text(max_size=300), created=st.floats(0, 4e9))
def test_any_reason_gives_a_directory_name_that_is_safe_and_ours(reason: str, created: float) -> None:
    name = names.directory_name(created, reason)
    assert names.SNAPSHOT.fullmatch(name)
    assert name.isascii()
    assert "/" not in name
    assert len(name) <= len("anomaly_20251112_143022_") + names.MAX_REASON
    assert names.PARTIAL.fullmatch(names.partial_name(name))
    assert len(names.partial_name(name)) <= 255


@pytest.mark.parametrize("reason", ["loss_spike_37.8pct", "best_model_loss_0.6321", "loss_spike_z9.1"])
def test_an_ordinary_reason_is_kept_as_it_is(reason: str) -> None:
    assert names.safe_reason(reason) == reason


def test_a_partial_names_its_owner() -> None:
    match = names.PARTIAL.fullmatch(names.partial_name("anomaly_20251112_143022_nan"))
    assert match
    assert (match["host"], int(match["pid"]), match["name"]) == (names.host(), os.getpid(), "anomaly_20251112_143022_nan")
    assert names.process_start(os.getpid()) == match["start"]


@given(st.dictionaries(st.lists(any_name, min_size=1, max_size=3).map(lambda p: os.fsdecode(b"/".join(p))), st.just("0" * 64)))
def test_checksums_survive_a_round_trip_under_any_names(digests: dict[str, str]) -> None:
    assert sums.parse(sums.render(digests)) == digests


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.sets(any_name, min_size=1, max_size=8))
def test_the_real_sha256sum_reads_them_under_any_names(tmp_path: Path, found: set[bytes]) -> None:
    import hashlib

    folder = tmp_path / hashlib.sha256(repr(sorted(found)).encode()).hexdigest()[:16]
    (folder / "model").mkdir(parents=True, exist_ok=True)
    digests = {}
    for name in found:
        with open(os.path.join(os.fsencode(folder), b"model", name), "wb") as file:
            file.write(name)
        digests[f"model/{os.fsdecode(name)}"] = hashlib.sha256(name).hexdigest()
    (folder / sums.NAME).write_bytes(sums.render(digests))
    done = subprocess.run(["sha256sum", "--strict", "-c", sums.NAME], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.mark.parametrize(
    "text", [b"x", b"\n", b"0" * 64 + b" a\n", b"0" * 63 + b"  a\n", b"0" * 64 + b"  a", b"g" * 64 + b"  a\n"]
)
def test_checksums_of_another_shape_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="line"):
        sums.parse(text)
