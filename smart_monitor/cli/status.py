"""`smart-monitor status`: is a run watched, and what is seen."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from smart_monitor.cli._options import as_json, base_dirs, out_dir, several
from smart_monitor.stats.crew import words
from smart_monitor.units import size

STALE = 3.0
"""Poll intervals (and 5 s) after which vitals are too old to speak for a live monitor."""


@click.command()
@base_dirs
@out_dir
@as_json
def command(bases: tuple[Path, ...], patterns: tuple[str, ...], out: Path | None, json_: bool) -> None:
    """Is the run watched, what does the monitor see, is its process alive, what is open? Exits 1 if the monitor is dead,
    blind or not there, or if the trainer is dead. Of several runs: a line each, the troubled first.

    \b
    Example:
      smart-monitor status --base-dir runs/llama-7b
      smart-monitor status --runs 'runs/*'
    """
    runs = several(bases, patterns)
    if out is not None and len(runs) > 1:
        raise click.UsageError("--out is for one run.")
    seen = [look(base, out) for base in runs]
    if len(runs) == 1 and not patterns:
        [one] = seen
        if json_:
            click.echo(json.dumps({"schema": 1, **one.document()}, indent=2))
        else:
            _say([f"{one.base}: {one.health}. {one.sentence}", *describe(one.pid, one.known, one.out)])
    elif json_:
        count = dict(Counter(one.health for one in seen))
        documents = [{"base": str(one.base), **one.document()} for one in seen]
        click.echo(json.dumps({"schema": 1, "counts": count, "runs": documents}, indent=2))
    else:
        _say(table(seen))
    # A directory among several that nobody watches may be no run, or one that rests.
    fine = [one.is_fine or (one.health == "none" and len(seen) > 1) for one in seen]
    sys.exit(0 if all(fine) and any(one.is_fine for one in seen) else 1)


def _say(lines: Iterable[str]) -> None:
    """A line each: names that others gave can neither forge one nor move the cursor."""
    from smart_monitor.snapshots.names import shown

    for line in lines:
        click.echo(shown(line))


class Seen(NamedTuple):
    """One run and its monitor."""

    base: Path
    out: str
    health: str
    sentence: str
    pid: int | None
    known: dict[str, Any] | None

    def document(self) -> dict[str, Any]:
        return {"health": self.health, "pid": self.pid, "vitals": self.known}

    @property
    def is_fine(self) -> bool:
        dead = self.known is not None and self.known.get("process", {}).get("word") == "dead"
        return self.health in ("watching", "starting", "resting") and not dead


def look(base: Path, out: Path | None) -> Seen:
    """How a run and its monitor are."""
    from smart_monitor.daemon.lock import holder_of
    from smart_monitor.daemon.place import Place
    from smart_monitor.daemon.vitals import read_vitals

    place = Place(base, out)
    holder, known = holder_of(place.lock), read_vitals(place)
    health, sentence = judge(holder is not None, known, time.time())
    return Seen(base, str(place.out), health, sentence, holder.pid if holder else None, known)


_ORDER = ("dead", "blind", "starting", "watching", "resting", "none")


def table(seen: list[Seen]) -> list[str]:
    """A line for each run, the troubled first, and how many of each health there are."""
    lines = []
    for one in sorted(seen, key=lambda s: (s.is_fine, _ORDER.index(s.health), s.base)):
        known = one.known or {}
        step = "-" if known.get("step") is None else str(known["step"])
        age = _ago(time.time() - known["last_seen"]) if known.get("last_seen") else "-"
        opened = ", ".join(f"{i['severity']}: {' + '.join(i['kinds'])}" for i in known.get("open_incidents", []))
        why = one.sentence if one.health in ("dead", "blind") else opened
        lines.append(f"{one.health:<9} {step:>9}  {age:<16} {one.base}" + (f"  ({why})" if why else ""))
    counts = Counter(one.health for one in seen)
    return [*lines, f"{len(seen)} runs: " + ", ".join(f"{counts[h]} {h}" for h in _ORDER if counts[h])]


def judge(held: bool, known: dict[str, Any] | None, now: float) -> tuple[str, str]:
    """One word for the health of the monitor, and a sentence."""
    if not held:
        if known is None:
            return "none", "No monitor has watched this run."
        when = _ago(now - known["time"])
        if known.get("rests") and os.path.exists(f"/proc/{known['pid']}"):
            return "resting", f"It was let go: {known['rests']}. Process {known['pid']} takes it up again when it moves."
        if known["stopped"]:
            return "dead", f"The monitor was stopped {when}."
        return "dead", f"The monitor died without a word; it was last alive {when}. Its next start goes on from there."
    if known is None:
        return "starting", "The monitor has just been started."
    if now - known["time"] > STALE * known["poll_interval"] + 5:
        return "dead", f"The monitor holds the run but has not moved since {_ago(now - known['time'])}."
    if not known["sight"]["ok"]:
        return "blind", known["sight"]["why"]
    return "watching", f"Reads {known['sight']['path']}."


def describe(pid: int | None, known: dict[str, Any] | None, out: str) -> list[str]:
    """The rest, a line each."""
    lines = [f"  monitor    process {pid}"] if pid else []
    if known is None:
        return lines
    if known.get("step") is not None:
        values = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in list(known["values"].items())[:6])
        age = _ago(time.time() - known["last_seen"]) if known["last_seen"] else "before this start"
        lines.append(f"  last seen  {known['by']} {known['step']} ({values}), {age}; {known['trainer'] or 'state unknown'}")
        unseen = f", {known['unseen_steps']} steps known to be unseen" if known["unseen_steps"] else ""
        ranks = f", {words(known['ranks'])}" if len(known.get("ranks", [])) > 1 else ""
        lines.append(f"  records    {known['records']} judged, attempt {known['attempt']}{ranks}{unseen}")
    lines += sources(known.get("sources", []), time.time())
    lines += trainer(known.get("process"), known.get("pace"), time.time())
    warming = [n["metric"] for n in known.get("near", []) if n["warming_up"]]
    if warming:
        lines.append(f"  warming up {', '.join(warming)}: the noise is not known yet")
    lines += [
        f"  open       {i['severity']}: {' + '.join(i['kinds'])} since step {i['first_step']}"
        + (f", {words(i['ranks'])}" if i.get("several") else "")
        for i in known.get("open_incidents", [])
    ]
    if known.get("findings"):
        lines.append("  findings   " + ", ".join(f"{k} {n}" for k, n in known["findings"].items()))
    lines += _remote(known.get("remote"))
    copy = known.get("copy")
    if copy:
        lines.append(f"  {'hung' if copy['hung'] else copy['phase']:<9}  {progress(copy, time.time())}")
    lines += [f"  promised   {name}" for name in known["promised"] if not copy or name != copy["name"]]
    lines += held(known.get("holds"), time.time())
    if known["trouble"]:
        lines.append(f"  trouble    {known['trouble']}")
    lines.append(f"  output     {out}")
    return lines


def trainer(known: dict[str, Any] | None, pace: dict[str, Any] | None, now: float) -> list[str]:
    """The trainer's process, and how long what it does may take."""
    if not known:
        return []
    word = known["word"]
    if "pid" not in known:
        named = (
            f"process {known['named']} is not one of this machine or container" if known["named"] else "nobody names its process"
        )
        lines = [f"  trainer    {word}: {named}"]
    elif known["gone"] is not None:
        lines = [f"  trainer    {word}: process {known['pid']} ({known['how']}); {known['ended']}, {_ago(now - known['gone'])}"]
    else:
        cpu = "" if known["cpu_percent"] is None else f", {known['cpu_percent']:.0f} % of a core"
        begun = "" if known["since"] is None else f", begun {_ago(now - known['since'])}"
        facts = f"{known['doing']}{cpu}, {size(known['rss'])}"
        lines = [f"  trainer    {word}: process {known['pid']} ({known['how']}{begun}); {facts}"]
    if pace and not pace["resting"] and word in ("alive", "silent", "unknown"):
        usual = f", a step usually takes {pace['usual']:.3g} s" if pace["usual"] else ""
        lines.append(f"  pace       phase {pace['phase']}{usual}; a stall is called after {pace['budget']:.0f} s")
    return lines


def sources(known: list[dict[str, Any]], now: float) -> list[str]:
    """What is read, how much of it was seen, and how old the newest record is."""
    from smart_monitor.following.part import amount

    lines = []
    for told in known:
        newest = "" if told["newest"] is None else f", newest {_ago(now - told['newest'])}"
        blind = "" if told["ok"] else f"; can't be seen now: {told['why']}"
        lines.append(f"  reads      {told['name']}: {amount(told)}{newest}{blind} ({told['path']})")
    return lines


def _remote(known: dict[str, Any] | None) -> list[str]:
    """How the copies elsewhere go."""
    if known is None:
        return []
    waiting, sending = known["waiting"], known["sending"]
    rest = "every other snapshot stands there" if known["refused"] else "every snapshot stands there"
    words = f"{len(waiting)} waiting" if waiting else rest if known["known"] else "not looked at yet"
    lines = [f"  remote     {known['url']}: {words}"]
    if sending:
        share = f" ({min(100, 100 * known['moved'] // known['of'])} %)" if known["of"] else ""
        lines.append(f"  sending    {sending}{share}")
    if known["trouble"]:
        again = f"; {known['failures']} tries, again in {known['next_in']:.0f} s" if known["failures"] else ""
        lines.append(f"  trouble    remote copies: {known['trouble']}{again}")
    return lines + [f"  not copied {name}: {why}" for name, why in known["refused"].items()]


def progress(copy: dict[str, Any], now: float) -> str:
    """How far a copy is, for a person."""
    if copy["hung"]:
        return f"{copy['name']}: the copying process (pid {copy['pid']}) does not move and can't be ended; the disk may hang"
    far = f": {size(copy['bytes'])} of {size(copy['total'])}, {size(copy['rate'])}/s" if copy["total"] else ""
    return f"{copy['name']}{far}, begun {_ago(now - copy['since'])}"


_HOWS = {"clone": "a clone", "link": "a hard link", "copy": "a copy"}


def held(holds: dict[str, Any] | None, now: float) -> list[str]:
    """What is held against the trainer's rotation, the newest first, and what could not be."""
    if holds is None:
        return []
    lines = []
    for hold in reversed(holds["held"]):
        step = "no step" if hold["step"] is None else f"step {hold['step']}"
        facts = f"{step}, {size(hold['bytes'])}, {_HOWS[hold['how']]}, complete {_ago(now - hold['completed'])}"
        lines.append(f"  held       {hold['name']} ({facts})" + (": the last good one" if hold["good"] else ""))
    if holds["kept"] < holds["met"]:
        lines.append(f"  held       {holds['kept']} of {holds['met']} checkpoints seen could be held in time")
    if holds["copying"]:
        lines.append(f"  held       {holds['copying']} is being copied, as it can't be linked")
    if holds["disk_nearly_full"]:
        lines.append("  held       the disk is nearly full: what is held is given back to the trainer")
    if holds["unable"]:
        lines.append(f"  held       checkpoints can't be held: {holds['unable']}")
    return lines


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago" if seconds >= 2 else "just now"
