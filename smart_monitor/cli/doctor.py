"""`smart-monitor doctor`: the troubleshooting of the guide, done by looking."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from smart_monitor.cli._options import as_json, base_dir, out_dir, settings_of
from smart_monitor.config import Settings
from smart_monitor.units import size


class Check(NamedTuple):
    """One thing looked at: `ok`, `note` (worth knowing) or `bad`, in a sentence, and the mend."""

    state: str
    what: str
    fix: str = ""


@click.command()
@base_dir
@out_dir
@click.option(
    "--torch", "in_training", is_flag=True, help="Try what runs inside training: the gradient monitor and the four losses."
)
@as_json
def command(base_dir: Path, out: Path | None, in_training: bool, json_: bool) -> None:
    """Why is nothing detected? Is the monitor running, what does it read, do the values vary, how near was each
    rule to firing, what is missing. Exits 1 if something is wrong.

    \b
    Example:
      smart-monitor doctor --base-dir runs/llama-7b
      smart-monitor doctor --torch
    """
    if in_training:
        checks = list(_in_training())
        marks = {"ok": "✓", "bad": "✗"}
    else:
        settings, _ = settings_of(base_dir, None, {})
        checks = list(examine(base_dir.absolute(), out, settings))
        marks = {"ok": "ok   ", "note": "note ", "bad": "BAD  "}
    if json_:
        click.echo(json.dumps([c._asdict() for c in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{marks[check.state]} {check.what}" + (f"\n      -> {check.fix}" if check.fix else ""))
    sys.exit(1 if any(c.state == "bad" for c in checks) else 0)


def _in_training() -> Iterator[Check]:
    """What works of the parts that need PyTorch."""
    try:
        from smart_monitor.inprocess.self_check import outcomes
    except ImportError as error:
        if error.name != "torch":
            raise
        yield Check(
            "bad", "PyTorch is not installed, which what runs inside training needs", "pip install 'smart-monitor[torch]'"
        )
        return
    for ok, sentence in outcomes():
        yield Check("ok" if ok else "bad", sentence)


def examine(base: Path, out: Path | None, settings: Settings) -> Iterator[Check]:
    """Everything worth looking at, from the monitor to the disk."""
    from smart_monitor.daemon.place import Place
    from smart_monitor.daemon.vitals import read_vitals

    if not base.is_dir():
        yield Check("bad", f"{base} is not there", "Give the run's directory with --base-dir; watch waits for it to appear.")
        return
    place = Place(base, out)
    known = read_vitals(place)
    yield from _monitor(place, known)
    yield from _source(base, settings, known)
    yield from _process(known)
    yield from _values(known, settings)
    yield from _checkpoints(base, settings)
    yield from _disk(place, settings)
    yield from _remote(known, settings)


def _monitor(place: Any, known: dict[str, Any] | None) -> Iterator[Check]:
    from smart_monitor.cli.status import judge
    from smart_monitor.daemon.lock import holder_of

    holder = holder_of(place.lock)
    health, sentence = judge(holder is not None, known, time.time())
    start = f"nohup smart-monitor watch --base-dir {place.base} &"
    if health in ("watching", "starting"):
        yield Check("ok", f"the monitor is running (process {holder.pid if holder else '?'}). {sentence}")
    elif health == "blind":
        yield Check("bad", f"the monitor is running but blind: {sentence}", "See what is read, below.")
    else:
        yield Check("bad", sentence, f"Start it: {start}")
    if known is not None and known["trouble"]:
        yield Check(
            "bad", f"the monitor can't write its journal or events: {known['trouble']}", "Free disk space or mend permissions."
        )
    if known is not None and known["watchdog"] not in ("on", "off"):
        yield Check("note", f"no file-system events ({known['watchdog']}); values are sampled every 0.5 s all the same")


def _source(base: Path, settings: Settings, known: dict[str, Any] | None) -> Iterator[Check]:
    """What there is to be read, what of it is of use, and what is missing."""
    from smart_monitor.discovery import find, nameless
    from smart_monitor.following import options_of
    from smart_monitor.following.part import amount
    from smart_monitor.sources.status_json import StatusFile

    options = options_of(settings)
    found = find(base, only=settings.source, options=options)
    told = {t["path"]: t for t in (known or {}).get("sources", [])}
    given: set[str] = set()
    readable = []
    for chosen in found.chosen:
        seen = chosen.open(base.name, options=options).read({}, time.time(), time.monotonic())
        if not seen.sight.ok:
            yield Check("bad", f"{found.shown(chosen)} ({chosen.format.title}) can't be read: {seen.sight.why}")
            continue
        readable.append(chosen)
        age = time.time() - chosen.written
        amounts = f"; seen: {amount(told[seen.sight.path])}" if seen.sight.path in told else ""
        yield Check(
            "ok" if age < 600 else "note", f"reads {seen.sight.path} ({chosen.format.title}), written {age:.0f} s ago{amounts}"
        )
        given |= {name for r in seen.records for name in r.values}
        if seen.records and seen.records[-1].kind == "state":
            yield Check("note", f"the trainer says it is {seen.records[-1].state}", "In this state values are not judged.")
        for oddity in seen.oddities:
            yield Check("note", oddity)
    if not readable:
        paths = StatusFile(base, base.name).paths
        yield Check("bad", f"nothing to read in {base}",
                    f"The trainer must write {paths[0]} (or {paths[1]}), JSON lines, TensorBoard events, CSV or a log there, "
                    "or you give the directory where it does with --base-dir.")  # fmt: skip
        for file in nameless(base, options):
            yield Check("note", f"{found.shown(file)} could be read ({file.format.title}) if it is asked for",
                        f"smart-monitor watch --base-dir {base} --source {found.shown(file)}")  # fmt: skip
    else:
        names = ", ".join(sorted(given)[:20]) or "no metric yet"
        mend = "" if "loss" in given else "Without a loss most rules have nothing to judge."
        yield Check("note" if mend else "ok", f"it gives {names}", mend)
        if all(s.format.late for s in readable):
            yield Check("note", f"{found.shown(readable[0])} is all there is", readable[0].format.late)
    for left in found.others[:10]:
        mend = "" if left.format.live else f"Afterwards: smart-monitor replay {base} --source {left.format.name}"
        yield Check("note", f"leaves out {found.shown(left)} ({left.format.title}): {left.why}", mend)
    for sentence in found.notes:
        yield Check("note", sentence)


def _process(known: dict[str, Any] | None) -> Iterator[Check]:
    """Whose process writes, and how long it may be silent."""
    from smart_monitor.cli.status import trainer

    found = (known or {}).get("process")
    if not known or not found:
        return
    told = [line.split(None, 1)[1] for line in trainer(found, known.get("pace"), time.time())]
    state, fix = {
        "dead": ("bad", "Read its own log (and dmesg: out of memory?), then resume from the newest complete checkpoint."),
        "silent": ("bad", "Look at it (py-spy dump): a hung collective, the data loader, a full disk."),
        "unknown": ("note", "Let the trainer write its pid (`pid`), or give --pid; its death is then noticed within seconds."),
    }.get(found["word"], ("ok", ""))
    yield Check(state, f"the trainer is {told[0]}", fix)
    yield from (Check("ok", line) for line in told[1:])


def _values(known: dict[str, Any] | None, settings: Settings) -> Iterator[Check]:
    near = known.get("near", []) if known else []
    if not near:
        yield Check("note", "no value has been judged yet")
    elif known:
        fired = ", ".join(f"{kind} {count}" for kind, count in known["findings"].items())
        yield Check("ok", f"{known['records']} records judged; rules that fired: {fired or 'none'}")
    for metric in near:
        name, last = metric["metric"], metric["last"]
        if metric["constant"]:
            yield Check("note", f"{name} has been {last} for all of the last values: is training really varying?")
        if metric["warming_up"]:
            yield Check("note", f"{name}: {metric['values']} values so far, its noise is not known yet")
        yield Check("ok", _distance(name, metric, settings))


def _distance(name: str, metric: dict[str, Any], settings: Settings) -> str:
    """How near the rule of this metric is to firing."""
    mean, last = metric["mean"], metric["last"]
    if isinstance(mean, str) or isinstance(last, str) or last is None:
        return f"{name}: last {last}, mean {mean}"
    noise = f", noise {100 * metric['noise']:.1f} %" if isinstance(metric["noise"], float) else ""
    if name == "loss" and mean > 0:
        limit = mean * (1 + settings.loss_spike_threshold)
        share = f"{100 * last / limit:.0f} % of it"
        return f"loss: last {last:.4g}, mean {mean:.4g}{noise}; loss_spike fires above {limit:.4g} ({share})"
    if name.endswith("accuracy"):
        return (
            f"{name}: last {last:.1f}, mean {mean:.1f}; accuracy_drop fires below {mean - settings.accuracy_drop_threshold:.1f}"
        )
    return f"{name}: last {last:.4g}, mean {mean:.4g}{noise}"


def _checkpoints(base: Path, settings: Settings) -> Iterator[Check]:
    from smart_monitor.checkpoints.shelf import Shelf

    shelf = Shelf(base, network_quiet=settings.network_quiet)
    shelf.scan(time.time())
    newest = shelf.newest(None, time.time())
    if newest is None:
        yield Check("note", "no complete checkpoint found; snapshots will hold metadata and status only",
                    f"The trainer should save under {base / 'current_model'} or {base}.")  # fmt: skip
    else:
        yield Check("ok", f"newest complete checkpoint: {newest.path} ({size(newest.bytes)}; {newest.complete_by})")
    for sentence in shelf.incomplete(time.time())[:5]:
        yield Check("note", sentence)


def _disk(place: Any, settings: Settings) -> Iterator[Check]:
    where = place.out if place.out.exists() else place.base
    if not os.access(where, os.W_OK):
        yield Check("bad", f"{where} is not writable for us", "Run the monitor as the trainer's user, or give --out.")
    free = shutil.disk_usage(where).free / 2**30
    need = settings.min_free_gb
    yield Check("ok" if free > need else "bad", f"{free:.1f} GiB free in {where}; {need:g} GiB must stay free after a copy",
                "" if free > need else "Free disk space, or lower min_free_gb.")  # fmt: skip


def _remote(known: dict[str, Any] | None, settings: Settings) -> Iterator[Check]:
    from smart_monitor.snapshots.remote.address import lacking, shown_as

    copies = (known or {}).get("remote") or {}
    if settings.remote and (why := lacking(settings.remote)):
        yield Check("bad", f"snapshots can't be copied to {shown_as(settings.remote)}", why)
    elif copies.get("trouble"):
        yield Check("bad", f"copying to {copies['url']} fails: {copies['trouble']}", "It is tried again by itself.")
    elif settings.remote:
        waiting = len(copies.get("waiting", []))
        yield Check("ok", f"snapshots are copied to {shown_as(settings.remote)} as well; {waiting} waiting")
    for name, why in copies.get("refused", {}).items():
        yield Check("bad", f"{name} is not copied to the remote: {why}", f"smart-monitor snapshots push {name} tries again.")
