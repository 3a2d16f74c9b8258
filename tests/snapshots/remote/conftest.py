"""A server for the tests of one process, started when the first of them asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snapshots.remote import rig


@pytest.fixture(scope="session")
def server() -> Iterator[rig.Server]:
    if rig.MISSING:
        pytest.skip(rig.SKIPPED)
    with rig.Server() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty remote: a directory, then a bucket."""
    if request.param == "file":
        return f"file://{tmp_path}/far/away"
    server = request.getfixturevalue("server")
    rig.aim(monkeypatch, server)
    return rig.new_bucket(server)
