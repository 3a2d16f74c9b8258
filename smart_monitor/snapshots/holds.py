"""The holds of one run: taken the moment a checkpoint is whole, given back when nobody needs them any more.

A checkpoint that is whole but whose writer may not be done is *growing*: pinned, and pinned anew whenever
it changes. Once its writer is known to be done, the hold is described on the disk and counts. What can't be
pinned is copied. Nothing here decides which checkpoint is worth keeping: that is told.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from smart_monitor.model import Checkpoint
from smart_monitor.snapshots import hold as one
from smart_monitor.snapshots.choose import AHEAD
from smart_monitor.snapshots.eager import Eager
from smart_monitor.snapshots.folders import make_private
from smart_monitor.snapshots.hold import FILES, PREFIX, TRASH, Hold, How, folder_name
from smart_monitor.snapshots.names import shown
from smart_monitor.snapshots.pin import Pinned, Raced, Unlinkable, is_single, pin

MEMORY = 256
"""Checkpoints of the past remembered, to tell a rotation from a loss and a second look from a first."""


def _rank(found: Checkpoint, now: float) -> tuple[bool, bool, float]:
    """What holds are put in order by: their completion, but what is dated ahead of our clock is older than what is written now,
    and what tells no step (`best.pt`, `last.pt`, written beside every checkpoint) is chosen only where nothing else is there."""
    return found.completed <= now + AHEAD, found.step is not None, found.completed


class _Growing(NamedTuple):
    found: Checkpoint
    folder: str
    pinned: Pinned


class Holds:
    """Holds below one directory. Not for use by several threads at once."""

    def __init__(self, folder: str, ring: int = 3) -> None:
        self.folder, self.ring = folder, ring
        self.attempt = 1
        """Stamped on new holds."""
        self.met = self.kept = 0
        """Checkpoints whose writing was seen, and those of them that were held when they were complete."""
        self.said: list[str] = []
        """Sentences for the log, not yet told."""
        self.unable = ""
        """Why checkpoints can't be held here now, if they can't."""
        self.eager = Eager(folder)
        self._complete: dict[str, Hold] = {}
        self._growing: dict[str, _Growing] = {}
        self._clone = True
        self._unlinkable: set[int] = set()
        self._in_place: set[str] = set()
        self._writings: dict[str, Checkpoint] = {}
        self._raced: set[str] = set()
        """Counted already, and written on while they were pinned."""
        self._unfinished: frozenset[str] = frozenset()
        self._emptying: threading.Thread | None = None
        self._once: set[str] = set()

    # -- what there is ----------------------------------------------------------------------------

    @property
    def complete(self) -> list[Hold]:
        """The holds of complete checkpoints, in order of completion; those that are chosen only for want of others come first."""
        return sorted(self._complete.values(), key=lambda h: (*_rank(h.checkpoint, time.time()), h.taken))

    @property
    def growing(self) -> bool:
        """Is anything pinned that may yet change?"""
        return bool(self._growing)

    def noun(self, hold: Hold) -> Checkpoint:
        """The checkpoint as it is to be copied from the hold."""
        return hold.noun(self.folder)

    def get(self, folder: str) -> Hold | None:
        """The hold of that name if it stands unharmed; a spoiled one is dropped and said."""
        hold = self._complete.get(folder)
        return None if hold is None or self._drop_spoiled(hold) else hold

    def of(self, found: Checkpoint) -> Hold | None:
        """The unharmed hold of this very checkpoint."""
        return next((h for h in self.complete[::-1] if h.is_of(found) and not self._drop_spoiled(h)), None)

    def recover(self) -> None:
        """After a start: take over the holds that stand as they were described, clear away what a kill left of others."""
        try:
            names = sorted(n for n in os.listdir(self.folder) if n.startswith(PREFIX))
        except OSError:
            return
        for name in names:
            try:
                hold = one.load(self.folder, name)
                if why := one.problem(hold, self.folder):
                    self.said.append(f"The hold on {shown(hold.checkpoint.name)} is dropped: {why}")
                else:
                    self._complete[name] = hold
                    continue
            except (FileNotFoundError, NotADirectoryError):
                pass  # a kill came before it was complete
            except (ValueError, OSError) as error:
                self.said.append(f"The hold {shown(name)} can't be used and is dropped: {error}")
            self._discard(name)
        self._empty_trash()

    # -- what comes -------------------------------------------------------------------------------

    def meet(self, whole: Sequence[tuple[Checkpoint, bool]], unfinished: Iterable[str], *, take: bool = True) -> list[Hold]:
        """Follow what a scan found: (checkpoint, is its writer done?) and the paths not yet whole; holds now complete.

        `take` False: nothing new is taken (the disk is nearly full, or the run has ended).
        """
        before, paths, partly = set(self._complete), {found.path for found, _ in whole}, frozenset(unfinished)
        for path in [p for p in self._growing if p not in paths]:
            self._vanished(path, rewritten=path in partly)
        # What vanished half-written was lost to us; what was whole before is merely being rotated.
        self.met += sum(path not in self._writings for path in self._unfinished - partly - paths)
        self._unfinished = partly
        now = time.time()
        for found, done in sorted(whole, key=lambda w: _rank(w[0], now))[-self.ring :]:
            self._meet(found, done=done, take=take)
        self._raced &= paths
        for path in list(self._writings)[:-MEMORY]:
            del self._writings[path]
        return [h for folder, h in self._complete.items() if folder not in before]

    def secure(self, found: Checkpoint) -> Hold | None:
        """A hold of a complete checkpoint that is needed now, whatever the ring holds; None where only a copy would do."""
        if (hold := self.of(found)) is not None:
            return hold
        if (growing := self._growing.get(found.path)) is None or growing.found.files != found.files:
            if growing is not None:
                self._discard(self._growing.pop(found.path).folder)
            self._take(found)
        return self._finish(found) if found.path in self._growing else None

    def check(self) -> None:
        """Notice holds whose files were overwritten in place."""
        for hold in list(self._complete.values()):
            self._drop_spoiled(hold)

    def pump(self, mono: float, rate: float, reserve: dict[str, float] | None) -> list[Hold]:
        """Drive the copying on (`Eager.pump`); holds now complete."""
        copied = self.eager.pump(mono, rate, reserve)
        if copied is None:
            return []
        if not copied.why:
            try:
                hold = self._keep(one.described(copied.found, copied.folder, self.folder, "copy", self.attempt))
            except OSError as error:
                copied = copied._replace(why=error.strerror or str(error))
            else:
                return [hold] if hold else []
        self._discard(copied.folder)
        if copied.changed:
            self.said.append(f"{shown(copied.found.name)} could not be held: {copied.why}")
        else:
            self._disable(copied.why)
        return []

    def _meet(self, found: Checkpoint, *, done: bool, take: bool) -> None:
        if any(h.is_of(found) or h.outlives(found) for h in self._complete.values()) or not self._is_newer(found):
            return
        for hold in [h for h in self._complete.values() if h.checkpoint.path == found.path and h.how == "link"]:
            self._drop_spoiled(hold)
        known = self._writings.pop(found.path, None)
        if known is not None and one.is_remnant(found, known):
            self._writings[found.path] = known
            return
        self._writings[found.path] = found
        raced = found.path in self._raced
        self._raced.discard(found.path)
        if known is None or (known.files != found.files and found.path not in self._growing and not raced):
            self.met += 1
        if not take:
            return
        growing = self._growing.get(found.path)
        if growing is not None and growing.found.files != found.files:
            self._discard(self._growing.pop(found.path).folder)
        if found.path not in self._growing and self._pinnable(found):
            self._take(found)
        if done and found.path in self._growing:
            self._finish(found)
        elif done and not self._pinnable(found) and (self.eager.copying is None or self.eager.copying.files != found.files):
            self.eager.want(found)

    def _pinnable(self, found: Checkpoint) -> bool:
        """May a link hold it? Not if its trainer overwrites it in place, nor across file systems."""
        fragile = found.path in self._in_place or (is_single(found) and found.step is None)
        return (self._clone or not fragile) and found.files[0].dev not in self._unlinkable

    def _is_newer(self, found: Checkpoint) -> bool:
        """Is it newer than what a full ring holds? An older one would be given back at once."""
        now = time.time()
        newest = [_rank(h.checkpoint, now) for h in self.complete[-self.ring :]]
        return len(newest) < self.ring or _rank(found, now) >= newest[0]

    def _take(self, found: Checkpoint) -> None:
        folder = folder_name(found)
        into = os.path.join(self.folder, folder, FILES)
        try:
            make_private(into)
            growing = _Growing(found, folder, pin(found, into, clone=self._clone))
        except Raced:
            self._raced.add(found.path)
            return self._discard(folder)  # the next scan meets what it has become
        except Unlinkable as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EMLINK:
                self._unlinkable.add(found.files[0].dev)
            self._say_once(f"Checkpoints can't be linked ({error}): each is copied as soon as it is complete")
            return self._discard(folder)
        except OSError as error:
            self._disable(error.strerror or str(error))
            return self._discard(folder)
        self.unable, self._clone = "", growing.pinned.how == "clone"
        if self._pinnable(found):
            self._growing[found.path] = growing
        else:
            self._discard(folder)  # only now is it known that nothing can be cloned here
        return None

    def _finish(self, found: Checkpoint) -> Hold | None:
        """Its writer is done: the hold counts from now on, if what is pinned is still what was found."""
        growing = self._growing.pop(found.path)
        how: How = "clone" if growing.pinned.how == "clone" else "link"
        return self._keep(Hold(growing.folder, found, how, self.attempt, time.time(), growing.pinned.files))

    def _keep(self, hold: Hold) -> Hold | None:
        why = one.problem(hold, self.folder)
        try:
            if not why:
                one.save(hold, self.folder)
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            self.said.append(f"{shown(hold.checkpoint.name)} could not be held: {why}")
            self._discard(hold.folder)
            return None
        self._complete[hold.folder], self.unable = hold, ""
        self.kept += 1
        return hold

    def _vanished(self, path: str, *, rewritten: bool) -> None:
        growing = self._growing.pop(path)
        self._discard(growing.folder)
        if not rewritten:
            name = shown(growing.found.name)
            self.said.append(f"{name} was rotated away before it was known to be complete: its hold is dropped")

    def _drop_spoiled(self, hold: Hold) -> str:
        why = one.problem(hold, self.folder)
        if why:
            self.said.append(f"The hold on {shown(hold.checkpoint.name)} is dropped: {why}")
            if hold.how == "link":
                self._in_place.add(hold.checkpoint.path)
            self.give_back(hold)
        return why

    def _disable(self, why: str) -> None:
        self.unable = why
        self._say_once(f"Checkpoints can't be held: {why}")

    # -- what goes --------------------------------------------------------------------------------

    def give_back(self, hold: Hold) -> None:
        """Let go of one: it is out of the way at once, its files are deleted on a thread beside us."""
        self._complete.pop(hold.folder, None)
        self._discard(hold.folder)

    def close(self) -> None:
        """Stop copying; what was growing is dropped (a restart meets it anew), what is complete stays."""
        for folder in [self.eager.abandon(), *(g.folder for g in self._growing.values())]:
            if folder:
                self._discard(folder)
        self._growing.clear()
        if self._emptying is not None:
            self._emptying.join(5.0)

    def _discard(self, folder: str) -> None:
        try:
            os.rename(os.path.join(self.folder, folder), os.path.join(self.folder, f"{TRASH}{time.time_ns()}-{folder[-16:]}"))
        except OSError:
            return
        self._empty_trash()

    def _empty_trash(self) -> None:
        """Deleting hundreds of gigabytes takes a file system seconds: not on the thread that watches."""
        if self._emptying is None or not self._emptying.is_alive():
            self._emptying = threading.Thread(target=self._empty, name="trash", daemon=True)
            self._emptying.start()

    def _empty(self) -> None:
        tried: set[str] = set()
        while True:
            try:
                names = [n for n in os.listdir(self.folder) if n.startswith(TRASH) and n not in tried]
            except OSError:
                return
            if not names:
                return
            for name in names:
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
            tried.update(names)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._once and len(self._once) < MEMORY:
            self._once.add(sentence)
            self.said.append(sentence)
