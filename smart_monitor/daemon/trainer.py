"""The trainer's process: who it is, whether it lives, and how it ended.

It is told by `--pid`, by the pid in what the trainer writes, or found by the files it holds open. From then on it is
that pid with that time of creation and no other. Only a process that was seen alive here can be dead; a pid that names
nobody here, or somebody who cannot have written these files, is of another machine or container: unknown.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smart_monitor.daemon.process import Handle, Process, boot, concerns, in_words, look, owner, since
from smart_monitor.model import RECORD, STATE, Record

if TYPE_CHECKING:
    from smart_monitor.daemon.log import Log
    from smart_monitor.judge import Judge

ALIVE, DEAD, FINISHED, UNKNOWN = "alive", "dead", "finished", "unknown"
CONFIRM = 1.5
"""Seconds between seeing that it is gone and saying so: its last words may not have been read yet."""
GLANCE = 2.0
"""Seconds between two looks at most, whatever the poll interval."""
AFTERWARDS = 5.0
"""Seconds after its end from which lines are somebody else's."""
CLOCK = 2.0
"""Seconds by which times of files and of processes may differ."""
LATE = 60.0
"""Seconds after the trainer's last word in which lines of its other files still come."""
LARGEST = 1 << 22
"""Linux gives no larger pids."""


class Trainer:
    """What is known of the process that writes one run. On the daemon's main thread, but for `survey`."""

    def __init__(self, log: Log, pid: int = 0) -> None:
        self._log, self._given = log, pid
        self.process: Process | None = None
        """As last seen; None while nobody is known."""
        self.how = ""
        """How it was found, in words."""
        self.code: int | None = None
        """Its wait status, once it has ended and if anybody tells."""
        self.word = ""
        """alive, dead, finished, unknown (somebody is named who can't be found here), or empty: nobody is named."""
        self.cpu_percent: float | None = None
        self._handle: Handle | None = None
        self._boot = boot()
        self._said: tuple[int, float] | None = None
        """The pid that the trainer's lines give, and when they last did (unix time)."""
        self._gone: float | None = None
        """Unix time at which it was first seen to be gone."""
        self._newest, self._owner = 0.0, -1
        """When, and by whom, the files that we follow were last written; learned by `survey`."""
        self._held: int | None = None
        self._places: list[str] = []
        """The directories of the files."""
        self._worded = self._summary = False
        """Does it say what it is doing? Was its last line a summary of the whole?"""
        self._heard = 0.0
        self._ended: float | None = None
        """When it said that it completed or crashed."""
        self._looked = self._measured = 0.0

    # -- what others tell -------------------------------------------------------------------------

    @property
    def seeks(self) -> bool:
        """Is nobody known (any more)?"""
        return self.process is None or self._gone is not None

    @property
    def unnamed(self) -> bool:
        """Has nobody said which process it is, so that who holds the files open would tell?"""
        return self._said is None and not self._given

    @property
    def pid(self) -> int | None:
        """Of the process while it lives."""
        return self.process.pid if self.process is not None and self._gone is None else None

    def survey(self, paths: Sequence[str], held: int | None) -> None:
        """Learn when and by whom `paths` were last written, and who holds them open. From the thread that may hang."""
        newest, whose = 0.0, -1
        # A directory's time is changed by others as well; it speaks only where no file does.
        for folders in (False, True):
            for path in paths if not newest else ():
                try:
                    found = os.stat(path)
                except OSError:
                    continue
                if stat.S_ISDIR(found.st_mode) == folders and found.st_mtime > newest:
                    newest, whose = found.st_mtime, found.st_uid
        self._newest, self._owner, self._held = newest, whose, held
        self._places = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]

    def heed(self, record: Record) -> None:
        """Take in a line of the trainer's."""
        if record.kind not in (RECORD, STATE):
            return
        self._heard = record.seen or 0.0
        if record.kind == STATE:
            self._ended = self._heard if record.state in ("completed", "crashed") else None
        self._worded = self._worded or bool(record.state)
        self._summary = "train_runtime" in record.values
        pid = record.ids.get("pid", "")
        if pid.isascii() and pid.isdigit() and 0 < int(pid[:9]) <= LARGEST:
            self._said = int(pid[:9]), self._heard

    def is_late(self, record: Record, *, began: bool) -> bool:
        """Was this record only written late, by a trainer that has said its last word? `began`: it opened an attempt."""
        if self._ended is None or began or record.state or not 0 <= (record.seen or 0.0) - self._ended < LATE:
            self._ended = None
            return False
        return True

    @property
    def over(self) -> bool:
        """Has its process ended, well or not?"""
        return self.word in (DEAD, FINISHED)

    # -- looking ----------------------------------------------------------------------------------

    def glance(self, mono: float) -> bool:
        """Look, if it is time to; True once something is to be said of it at once: it is gone, for certain."""
        if self.process is None or self.over or (mono - self._looked < GLANCE and self._gone is None):
            return False
        self._look(mono)
        return self._gone is not None and time.time() - self._gone >= CONFIRM

    def tick(self, record: Record, word: str, judge: Judge | None) -> Record:
        """The tick with what the process is and does; `word` is what the trainer last said of itself."""
        mono = time.monotonic()
        if self.process is None or self._gone is not None:
            self._seek()
        if self.process is not None and not self.over:
            self._look(mono)
        before = self.word
        self._settle(word, done=judge is not None and judge.total is not None and (judge.step or 0) >= judge.total)
        if self.word != before:
            self._tell()
        if not self.word:
            return record
        values, ids = dict(record.values), {}
        if self.process is not None:
            ids = {"pid": str(self.process.pid), "started": str(self.process.started)}
            if self.word == ALIVE:
                ids["doing"] = self.process.doing
                values["process_rss_bytes"] = float(self.process.rss)
                if self.cpu_percent is not None:
                    values["process_cpu_percent"] = self.cpu_percent
        note = record.note
        if self.word == DEAD:
            note = in_words(self.code)
            ids["ended"] = "told" if self.code is not None or self._worded else "untold"
        return record._replace(values=values, state=self.word, ids=ids, note=note)

    def _look(self, mono: float) -> None:
        before, self._looked = self.process, mono
        assert before is not None
        now = look(before.pid) if self._boot == boot() else None
        if now is not None and now.started == before.started and not now.ended:
            if mono - self._measured >= GLANCE / 4 and now.cpu >= before.cpu:
                if self._measured:
                    self.cpu_percent = round(100 * (now.cpu - before.cpu) / (mono - self._measured), 1)
                self._measured, self.process = mono, now
            return
        if self._gone is None:
            self._gone, self.cpu_percent = time.time(), None
        if now is not None and now.started == before.started and now.code is not None:
            self.code = now.code
        elif self.code is None and self._handle is not None:
            self.code = self._handle.code()

    def _settle(self, word: str, *, done: bool) -> None:
        """Which word is it by now?"""
        if self.process is None:
            self.word = UNKNOWN if self._said or self._given else ""
        elif self._gone is None:
            self.word = ALIVE
        elif self._heard > self._gone + AFTERWARDS and word not in ("completed", "crashed"):
            self.word = UNKNOWN  # somebody writes who is not the process we knew
        elif time.time() - self._gone < CONFIRM:
            self.word = self.word or ALIVE
        elif word == "completed" or self._ended_well(done):
            self.word = FINISHED
        else:
            self.word = DEAD

    def _tell(self) -> None:
        """The new word, in the log; of a dead one the finding speaks."""
        known = self.process
        if self.word == UNKNOWN and known is None:
            named = self._said[0] if self._said else self._given
            self._log.info(f"The trainer's process {named} can't be found here: of another machine or container, or over")
        elif self.word == UNKNOWN:
            self._log.info("Somebody writes who is not the process that was known: whether it lives is unknown")
        elif self.word == FINISHED and known is not None:
            self._log.info(f"The trainer's process {known.pid} has finished: {in_words(self.code)}")

    def _ended_well(self, done: bool) -> bool:
        """It ended without a word: by its own account, or as far as the kernel tells?"""
        if self.code is None:
            return done or self._summary
        return self.code == 0 and (done or self._summary or not self._worded)

    # -- seeking ----------------------------------------------------------------------------------

    def _seek(self) -> None:
        """Find it: as told by hand, by its own lines, by the files it holds open."""
        if self._given and self.process is None and self._adopt(self._given, "given by --pid", told=True):
            return
        if self._said is not None:
            pid, when = self._said
            if (self._gone is None or when > self._gone) and self._adopt(pid, "told by what it writes"):
                return
        if self._held and self.unnamed:
            self._adopt(self._held, "holds the run's files open")

    def _adopt(self, pid: int, how: str, *, told: bool = False) -> bool:
        """Take `pid` for the trainer, unless it can't be."""
        found = look(pid)
        if found is None or found.ended or found.kernel or pid == os.getpid():
            return False
        old = self.process
        if old is not None and (old.pid, old.started) == (found.pid, found.started) and self._boot == boot():
            return False
        if not told and not self._may_have_written(found):
            return False
        handle = Handle(pid)
        if (again := look(pid)) is None or again.started != found.started:
            handle.close()
            return False
        self.close()
        self._handle, self.process, self.how, self._boot = handle, found, how, boot()
        self._gone = self.code = self.cpu_percent = None
        self._measured, self.word = 0.0, ALIVE
        self._log.info(f"The trainer is process {pid}: {how}")
        return True

    def _may_have_written(self, found: Process) -> bool:
        """Its owner wrote the files, it existed when they were last written, and it looks like a trainer."""
        if not self._newest or since(found.started) > self._newest + CLOCK:
            return False
        if owner(found.pid) != self._owner:
            return False
        return concerns(found.pid, self._places)

    # -- remembering ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Who it is, for the next start: what died in between is dead, and not unknown."""
        found: dict[str, Any] = {"said": self._said, "worded": self._worded}
        if self.process is None:
            return found
        found |= {"pid": self.process.pid, "started": self.process.started, "boot": self._boot, "how": self.how}
        return found | {"gone": self._gone, "code": self.code, "word": self.word}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; anything else is as good as nothing."""
        try:
            self._worded = bool(state["worded"])
            if state["said"] is not None:
                self._said = int(state["said"][0]), float(state["said"][1])
            pid, started = int(state["pid"]), int(state["started"])
            self.how, self._boot, self.word = str(state["how"]), str(state["boot"]), str(state["word"])
            self._gone = None if state["gone"] is None else float(state["gone"])
            self.code = None if state["code"] is None else int(state["code"])
        except (KeyError, IndexError, TypeError, ValueError):
            return
        self.process = Process(pid, started, 0, "sleeping", 0.0, 0, None)
        if (found := look(pid)) is not None and found.started == started:
            self._handle = Handle(pid)

    def close(self) -> None:
        """Let go of its descriptor."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def vitals(self) -> dict[str, Any]:
        """For `status` and `doctor`."""
        known = self.process
        found: dict[str, Any] = {"word": self.word or UNKNOWN, "named": self._said[0] if self._said else self._given or None}
        if known is not None:
            found |= {"pid": known.pid, "since": since(known.started) if self._boot == boot() else None, "how": self.how}
            found |= {"doing": known.doing, "cpu_percent": self.cpu_percent, "rss": known.rss}
            found |= {"gone": self._gone, "ended": in_words(self.code) if self._gone else ""}
        return found
