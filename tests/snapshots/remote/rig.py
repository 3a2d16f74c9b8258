"""Remotes for tests: a directory, and a bucket of a real S3-protocol server on loopback; and jobs for them."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from smart_monitor.snapshots import sums
from smart_monitor.snapshots.listing import read_metadata
from smart_monitor.snapshots.remote import sender
from smart_monitor.snapshots.remote.place import Remote
from tests.checkpoints.trees import hf_checkpoint
from tests.snapshots.runs import snapshot
from tests.waiting import until

MISSING = [name for name in ("s3fs", "moto", "flask", "boto3") if importlib.util.find_spec(name) is None]
"""What the tests against a server need and do not find."""
SKIPPED = f"needs {', '.join(MISSING)}: scripts/test --all installs them"
KEY, SECRET = "AKIDOFTHETESTS", "not-to-be-seen-anywhere"


class Server:
    """moto's server, a process of its own; its buckets live in its memory."""

    def __init__(self, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        self._said = os.memfd_create("moto")
        # In a directory without a name for us: the server must not find the package under test instead of its own.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdin=subprocess.DEVNULL,
            stdout=self._said, stderr=self._said, cwd="/", env={**os.environ, **(environment or {})},
        )  # fmt: skip
        found = until(lambda: re.search(rb"Running on http://127\.0\.0\.1:(\d+)", self._text()) or self._ended())
        assert isinstance(found, re.Match), self._text().decode()
        self.port = int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str) -> Any:
        """Make a bucket; a boto3 client that sees it."""
        import boto3  # only where the extras are installed

        client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )  # fmt: skip
        client.create_bucket(Bucket=name)
        return client

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _text(self) -> bytes:
        return os.pread(self._said, 1 << 20, 0)

    def _ended(self) -> bool:
        return self._process.poll() is not None


def aim(patch: pytest.MonkeyPatch, server: Server) -> None:
    """Have what runs in this test, and the processes that it starts, speak to that server."""
    patch.setenv("AWS_ENDPOINT_URL", server.url)
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def new_bucket(server: Server) -> str:
    """The address of a fresh one."""
    name = f"b{uuid.uuid4().hex}"
    server.bucket(name)
    return f"s3://{name}/pre/fix"


def snapshot_in(out: Path, name: str = "one", reason: str = "loss_spike_37.8pct", *, size: int = 1024) -> Path:
    """A real snapshot of a small run, published by the real store; its path."""
    base = out / "run"
    if not base.exists():
        hf_checkpoint(base / "current_model", 500, size=size)
    return snapshot(out, base, name, reason)


def job(out: Path, url: str, **more: Any) -> dict[str, Any]:
    fixed = {"out": str(out), "run": "llama 7b", "url": url, "options": {}, "rate": 0, "names": [], "theirs": []}
    return {**fixed, "overwrite": False, "thorough": False, **more}


def send(out: Path, url: str, **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Send what waits; the result and what was told."""
    told: list[dict[str, Any]] = []
    result = sender.perform(job(out, url, **more), told.append, lambda _: None)
    return result, told


def moved(told: list[dict[str, Any]]) -> int:
    """Bytes that were really sent."""
    return sum(m["moved"] for m in told if "sent" in m)


def content(url: str, name: str) -> bytes | None:
    """What stands at the remote under a name."""
    remote = Remote(url, {})
    return None if remote.find(name) is None else b"".join(remote.read(name))


def put(url: str, name: str, data: bytes) -> None:
    """Another's hand at the remote."""
    Remote(url, {}).put(name, [data], len(data))


def fetched(url: str, folder: str, to: Path) -> Path:
    """All that stands in a folder of the remote, as a directory."""
    remote, pending = Remote(url, {}), [""]
    while pending:
        below = pending.pop()
        for name in remote.names(f"{folder}/{below}" if below else folder):
            relative = f"{below}/{name}" if below else name
            data = content(url, f"{folder}/{relative}")
            if data is None:
                pending.append(relative)
            else:
                (to / relative).parent.mkdir(parents=True, exist_ok=True)
                (to / relative).write_bytes(data)
    return to


def require_whole_or_unseen(url: str, folder: str, snapshot: Path) -> bool:
    """The law: who sees SHA256SUMS or metadata.json sees every file. True if the manifest is seen."""
    manifest, metadata = content(url, f"{folder}/{sums.NAME}"), content(url, f"{folder}/metadata.json")
    if manifest is None and metadata is None:
        return False
    for name in (f["path"] for f in read_metadata(snapshot)["files"]):
        assert content(url, f"{folder}/{name}") == (snapshot / name).read_bytes(), name
    if manifest is not None:
        assert manifest == (snapshot / sums.NAME).read_bytes()
        assert metadata == (snapshot / "metadata.json").read_bytes()
    return manifest is not None
