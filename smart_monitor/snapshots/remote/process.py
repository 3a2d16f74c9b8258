"""The sending process as the daemon sees it: started when there is something to send, tried again with growing pauses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from smart_monitor.config import Settings
from smart_monitor.snapshots.process import Places, Worker
from smart_monitor.snapshots.remote import records
from smart_monitor.snapshots.remote.address import lacking, shown_as
from smart_monitor.units import size

PAUSES = (5.0, 15.0, 60.0, 300.0, 900.0)
"""Seconds before the next try, after the first, second … failure in a row."""
BUSY_PAUSE = 30.0
AT_ONCE = 2
"""Processes of one daemon, however many runs it watches."""
HANGS = 900.0
"""Seconds without a word after which the process is taken for hung."""


class Told(NamedTuple):
    """What a person should know: a level and a sentence for the log."""

    level: str
    text: str


class Sender(Worker):
    """The process at work."""

    # The file systems are installed wherever the user put them, so the ways of this interpreter stay open to it.
    code = "import sys; sys.path.append(sys.argv[1]); from smart_monitor.snapshots.remote.sender import main; main()"
    flags = ("-P", "-X", "utf8")

    def __init__(self, job: dict[str, Any]) -> None:
        """Start it. Raises OSError if no process can be made."""
        self.heard: list[dict[str, Any]] = []
        self.spoke = time.monotonic()
        super().__init__(job)

    def _line(self, line: bytes) -> None:
        super()._line(line)
        self.spoke = time.monotonic()
        try:
            message = json.loads(line)
        except ValueError:
            return
        if isinstance(message, dict) and message.keys() & {"waiting", "sending", "sent", "refused"}:
            self.heard.append(message)


class RemoteCopies:
    """Has every finished snapshot of one run copied to the remote. Never raises OSError; times are monotonic seconds."""

    _places = Places(AT_ONCE)
    """Of all runs of this daemon."""

    def __init__(self, out: Path, run: str, theirs: list[Path], settings: Settings, *, dry: bool = False) -> None:
        """`theirs`: directories in which no remote may lie. `dry`: nothing is sent whatever the settings say."""
        self._dry = dry
        self._out, self._run, self._theirs = out, run, [str(t) for t in theirs]
        self._settings = settings
        self._process: Sender | None = None
        self._said: set[str] = set()
        self._told: list[Told] = []
        self._waiting: list[str] = []
        self._refused: dict[str, str] = {}
        self._trouble, self._alarmed, self._known = "", False, False
        self._begin()

    @property
    def busy(self) -> bool:
        """Is something being sent, or about to be, that need not wait for a failure to mend?"""
        return self._process is not None or (self._due and not self._lacking and not self._trouble)

    @property
    def url(self) -> str:
        """Where to; empty if nowhere."""
        return "" if self._dry else self._settings.remote

    def wake(self, name: str) -> None:
        """A snapshot was published."""
        if self.url:
            self._due = True
            self._waiting = [*self._waiting, name]

    def configure(self, settings: Settings) -> None:
        """Go on with other settings."""
        before, self._settings = self._settings, settings
        if any(getattr(before, k) != getattr(settings, k) for k in ("remote", "remote_options", "remote_rate_mb", "remote_days")):
            self.stop()
            self._begin()

    def pump(self, now: float) -> list[Told]:
        """Read the process, or start it if something waits and its time has come; what is to be said."""
        if self._process is not None:
            result = self._process.poll()
            self._hear(self._process)
            if result is None and now - self._process.spoke > HANGS:
                self._process.abandon()
                result = {"result": "failed", "why": f"nothing moved for {HANGS / 60:.0f} minutes"}
            if result is not None:
                self._release()
                self._settle(result, now)
        elif self._due and now >= self._next and not self._lacking and self._places.take():
            self._start(now)
        told, self._told = self._told, []
        return told

    def alarm(self, now: float) -> str:
        """Once, when copying has failed for as long as the setting allows: why. Else empty."""
        if not self._trouble or self._alarmed or now - self._since < self._settings.remote_patience:
            return ""
        self._alarmed = True
        return f"{self._count()} not copied to {shown_as(self.url)}: {self._trouble}"

    def stop(self) -> None:
        """End the process; what it was about is sent after the next start."""
        if self._process is not None:
            self._process.abandon()
            self._hear(self._process)
            self._release()

    def vitals(self, now: float) -> dict[str, Any] | None:
        """For `status`; None where no remote is set."""
        if not self.url:
            return None
        process = self._process
        return {
            "url": shown_as(self.url), "waiting": self._waiting, "known": self._known, "refused": self._refused,
            "sending": self._sending if process else "", "moved": process.bytes - self._before if process else 0, "of": self._of,
            "trouble": self._lacking or self._trouble, "failures": self._failures,
            "next_in": round(max(0.0, self._next - now), 1) if self._trouble and process is None else 0.0,
        }  # fmt: skip

    def _begin(self) -> None:
        url = self.url
        self._due, self._next, self._since, self._failures, self._alarmed = bool(url), 0.0, 0.0, 0, False
        self._trouble = self._sending = ""
        self._of = self._before = 0
        self._waiting, self._refused, self._known = [], {}, False
        self._lacking = lacking(url) if url else ""
        try:
            records.set_target(self._out, url, self._settings.remote_days)
        except OSError:
            pass  # a full disk: pruning does not wait for copies, everything else goes on
        if self._lacking:
            self._say("WARNING", f"{self._lacking} (until then no snapshot is copied there, and the monitor goes on)")
        elif url:
            self._told.append(Told("INFO", f"Every snapshot is copied to {shown_as(url)} as well"))

    def _start(self, now: float) -> None:
        settings = self._settings
        job = {
            "out": str(self._out.absolute()), "run": self._run, "url": self.url, "options": dict(settings.remote_options),
            "rate": settings.remote_rate_mb * 2**20, "names": [], "theirs": self._theirs, "overwrite": False, "thorough": False,
        }  # fmt: skip
        try:
            self._process = Sender(job)
        except OSError as error:
            self._places.give_back()
            self._settle({"result": "failed", "why": f"no process can be started: {error.strerror}"}, now)
        else:
            self._due, self._sending, self._before = False, "", 0

    def _release(self) -> None:
        self._process = None
        self._places.give_back()

    def _hear(self, process: Sender) -> None:
        heard, process.heard = process.heard, []
        for message in heard:
            if "waiting" in message:
                self._waiting, self._refused, self._known = list(message["waiting"]), dict(message["cannot"]), True
            elif "sending" in message:
                self._sending, self._of, self._before = str(message["sending"]), int(message["of"]), process.bytes
            elif "sent" in message:
                self._recover()
                proof = f", proven by {message['proof']}" if message["proof"] else "; it stood there already"
                took = f"{size(message['bytes'])} in {message['seconds']:.1f} s"
                self._told.append(Told("INFO", f"Snapshot {message['sent']} stands at {message['at']} ({took}{proof})"))
            else:
                self._say("WARNING", f"Snapshot {message['refused']} is not copied to the remote: {message['why']}")

    def _settle(self, result: dict[str, Any], now: float) -> None:
        kind = result["result"]
        if kind == "done":
            self._recover()
        elif kind == "busy":
            self._due, self._next = True, now + BUSY_PAUSE
        elif kind == "lacking":
            self._lacking = str(result["why"])
            self._say("WARNING", self._lacking)
        else:
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._since = self._since if self._trouble else now
            self._due, self._failures, self._next, self._trouble = True, self._failures + 1, now + pause, str(result["why"])
            again = f"{self._count()} waiting; tried again with growing pauses"
            self._say("WARNING", f"Copying to {shown_as(self.url)} fails: {self._trouble}", f" ({again})")

    def _recover(self) -> None:
        if self._trouble:
            self._told.append(Told("INFO", f"Copying to {shown_as(self.url)} works again"))
            self._said.clear()
        self._trouble, self._failures, self._next, self._alarmed = "", 0, 0.0, False

    def _say(self, level: str, text: str, more: str = "") -> None:
        if text not in self._said:
            self._said.add(text)
            self._told.append(Told(level, text + more))

    def _count(self) -> str:
        count = len(self._waiting)
        return f"{count} snapshot{'s' * (count != 1)}"
