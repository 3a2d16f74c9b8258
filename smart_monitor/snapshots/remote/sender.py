"""The sending process: one job on stdin (JSON), what happens on stdout (JSON lines). Also done in place by `snapshots push`.

Messages: `waiting` (names, and what `cannot` be sent, with reasons), `sending` (a name, `of` bytes), `progress`
(bytes moved so far), `sent` (a name, where it stands `at`, bytes, seconds, proof), `refused` (a name, `why`), and
last of all `result`: `done`, `failed` (worth trying again), `busy` (another process sends), `lacking` (something is
not installed), `stopped`; each but the first with `why`, one sentence.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.listing import list_snapshots
from smart_monitor.snapshots.pace import Pace
from smart_monitor.snapshots.remote import records
from smart_monitor.snapshots.remote.address import lacking, run_folder, without_secrets
from smart_monitor.snapshots.remote.upload import Gone, Refused, Upload
from smart_monitor.snapshots.trash import reading
from smart_monitor.snapshots.worker import Life, Stopped, lower, say

ENOUGH = 2
"""Failures in a row after which the remote, and not a snapshot, is what is wrong."""
Tell = Callable[[dict[str, Any]], None]


class Busy(Exception):
    """Another process sends the snapshots of this run."""


def perform(job: Mapping[str, Any], tell: Tell, alive: Callable[[int], None]) -> dict[str, Any]:
    """Send what the job names, or all that waits; the result. `alive` is called for each piece and may raise."""
    if why := lacking(job["url"]):
        return {"result": "lacking", "why": why}
    try:
        with _alone(Path(job["out"])):
            if not (job["names"] or _wait(job, tell)):
                return {"result": "done"}
            return _Pass(job, tell, alive).run()
    except Busy:
        return {"result": "busy", "why": "another process sends the snapshots of this run"}
    except (Stopped, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever a file system behind fsspec may raise
        return {"result": "failed", "why": sentence(error)}


def _wait(job: Mapping[str, Any], tell: Tell) -> list[str]:
    """Tell what waits; the names."""
    waiting, cannot = records.waiting(Path(job["out"]), job["url"])
    tell({"waiting": waiting, "cannot": cannot})
    return waiting


class _Pass:
    """One go over the snapshots that wait."""

    def __init__(self, job: Mapping[str, Any], tell: Tell, alive: Callable[[int], None]) -> None:
        from smart_monitor.snapshots.remote.place import Remote  # brings fsspec, which may have been missing

        self._job, self._tell = job, tell
        self._out, self._url = Path(job["out"]), str(job["url"])
        self._pace = Pace(job["rate"], alive)
        self._remote = Remote(self._url, job["options"])
        require_elsewhere(self._remote.directory, job["theirs"])

    def run(self) -> dict[str, Any]:
        """Until nothing waits that was not tried, or the remote fails."""
        tried: set[str] = set()
        why, failures = "", 0
        while names := [n for n in self._job["names"] or _wait(self._job, self._tell) if n not in tried]:
            tried.add(names[0])
            try:
                self._send(names[0])
                failures = 0
            except (Stopped, KeyboardInterrupt):
                raise
            except Exception as error:  # whatever a file system behind fsspec may raise
                why, failures = sentence(error), failures + 1
                if failures >= ENOUGH:
                    break
        records.forget_gone(self._out, self._url)
        return {"result": "failed", "why": why} if why else {"result": "done"}

    def _send(self, name: str) -> None:
        snapshot = next((s for s in list_snapshots(self._out) if s.name == name), None)
        if snapshot is None:
            return  # it was deleted meanwhile
        record = records.record_of(self._out, self._url, name, records.digest_of(snapshot.path))
        if record.state != records.OPEN:
            record.state, record.why = records.OPEN, ""  # asked for by hand
        record.save()  # from now on the days count that pruning waits for it
        self._tell({"sending": name, "of": snapshot.bytes})
        folder = f"{run_folder(self._job['run'])}/{name}"
        upload = Upload(
            snapshot.path, folder, self._remote, record, self._pace,
            overwrite=self._job["overwrite"], thorough=self._job["thorough"],
        )  # fmt: skip
        try:
            with reading(snapshot.path):  # it is not pruned meanwhile
                done = upload.perform()
        except Refused as refusal:
            record.close(records.REFUSED, str(refusal))
            self._tell({"refused": name, "why": str(refusal)})
        except (Gone, FileNotFoundError):
            if snapshot.path.is_dir():
                raise
            record.path.unlink(missing_ok=True)  # it was deleted meanwhile
        else:
            facts = {"bytes": done.bytes, "moved": done.sent, "seconds": round(done.seconds, 3), "proof": done.proof}
            self._tell({"sent": name, "at": self._remote.at(folder), **facts})


def require_elsewhere(directory: str | None, theirs: list[str]) -> None:
    """Raises OSError if the remote is a directory of the run itself: nothing of ours is written there."""
    for folder in theirs if directory is not None else ():
        if f"{os.path.realpath(str(directory))}/".startswith(os.path.realpath(folder) + "/"):
            raise OSError(None, "the remote lies in the run's own directory")


def sentence(error: BaseException) -> str:
    """What went wrong, on one line and without secrets."""
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    where = f" ({os.fsdecode(error.filename)})" if isinstance(error, OSError) and error.filename is not None else ""
    return without_secrets(f"{text}{where}")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One process at a time sends the snapshots of a run. Raises Busy or OSError."""
    folder = records.folder_of(out)
    make_private(str(folder.absolute()))
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None
        except OSError:
            pass  # a file system without locks: the daemon starts one process at a time all the same
        yield
    finally:
        os.close(fd)


def main() -> int:
    """Do the job on stdin; 0 if nothing is left to send."""
    job = json.load(sys.stdin.buffer)
    os.umask(0o077)
    lower()
    try:
        result = perform(job, say, Life(job["parent"]).passed)
    except Stopped as stopped:
        result = {"result": "stopped", "why": str(stopped)}
    say(result)
    sys.stdout.flush()
    os._exit(0 if result["result"] == "done" else 1)  # threads of a file system may hang in the network


if __name__ == "__main__":
    main()
