from typing import Any

from smart_monitor.config import Settings
from smart_monitor.model import RECORD, STATE, TICK
from smart_monitor.rules import PEER, Moment, Rule, Verdict
from smart_monitor.stats import rhythm
from smart_monitor.stats.crew import words

ENDED = ("completed", "crashed")
RESTING = ("idle", *ENDED)
LATE = 60.0
"""Seconds after the end in which lines still come."""
BUSY, AT_REST = 20.0, 2.0
"""Per cent of a core above which a process works, and below which it waits."""


class Stall(Rule):
    """A run that has stopped making steps, though nobody said it ended.

    What it watches: the time between records, on every tick, and what the process does meanwhile.

    Why it matters: a hung collective, a dead data loader or a full disk costs a night of GPU hours
    without a single line in the log.

    Formula: seconds since the last record of any rank, by a clock that never steps, > the budget of the phase the run may be in.
    train: max(`stall_after` (300 s), 6 x the median of the last 20 intervals, 2 x the longest of them). eval, save: 3 x the
    longest such pause of the run (intervals of more than 5 medians and 30 s; eval if an evaluation ends it), at any step until
    three of them come at equal distances, then only where the next is due. start, first step: `stall_start` (30 min), or 3 x what
    it took before. What was learned is kept across attempts. Idle, completed and crashed runs do not stall, nor does a process
    that is gone (`process_gone` says that) or a run we cannot see (`blind`).

    Judges from: 2 records; 1, or a process that lives, for the first step and the start.

    What to do: look at the process (py-spy dump), the data loader and the other ranks.
    """

    severity = "warning"
    family = "progress"
    listens = (RECORD, STATE, TICK, PEER)
    of_the_run = True
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        record, memory = moment.record, self.memory
        if record.kind == STATE:
            memory["resting"] = record.state in RESTING
            memory["rested"] = record.seen if record.state in ENDED else None
            return None
        if record.seen is None:
            return None
        if record.kind in (RECORD, PEER):
            self._record(moment, record.seen)
            return None
        return self._tick(moment, record.seen)

    def _record(self, moment: Moment, seen: float) -> None:
        record, memory = moment.record, self.memory
        if record.kind == RECORD:
            memory["own"] = True
        elif record.rank == 0:
            return  # it was met as a record
        ended = memory.get("rested")
        if not memory.get("resting") or moment.restarted or ended is None or not 0 <= seen - ended < LATE:
            memory["resting"] = False
        if record.kind == RECORD or not memory.get("own"):
            rhythm.beat(
                memory,
                seen,
                moment.step,
                evaluation=moment.evaluation,
                began=bool(moment.restarted),
                counts=not record.historical,
            )
        else:
            memory["last"], memory["live"] = max(seen, memory.get("last") or seen), True

    def _tick(self, moment: Moment, seen: float) -> Verdict | None:
        record, memory = moment.record, self.memory
        if record.state in ("dead", "finished"):
            return None
        alive = record.state == "alive"
        if alive and (known := record.ids.get("started")) != memory.get("process"):
            if "process" in memory:
                memory["since"] = seen  # another process has taken over: it starts
            memory["process"] = known
        if memory.get("resting") or record.values.get("blind"):
            return None
        last = memory.get("since", memory.get("last"))
        if last is None and alive:
            last = memory["since"] = seen
        if last is None or not (alive or memory.get("live")):
            return None  # nothing is known to be alive: what stands there may be of last year
        silent = seen - last
        if "since" not in memory and (age := record.values.get("record_age")) is not None:
            silent = age  # by a clock that never steps, where one has counted since then
        phase, budget = rhythm.budget(memory, moment.settings.stall_after, moment.settings.stall_start)
        if silent <= budget:
            return None
        usual = rhythm.usual(memory)
        rhythms = f"; a step usually takes {usual:.3g} s" if usual else ""
        behind = moment.crew.hindmost()
        who = f"; {words(behind)} did not reach step {moment.crew.last()}" if behind else ""
        return Verdict(
            message=f"no new step for {silent:.0f} s in phase {phase} ({budget:.0f} s are granted){rhythms}{_doing(moment)}{who}",
            advice="Look at the training process: a hung collective, the data loader, a full disk.",
            metric="seconds_since_record", value=round(silent, 3), baseline=usual, threshold=budget, strategy=phase,
            evidence={"phase": phase, **({"behind": behind} if behind else {})},
        )  # fmt: skip

    def pace(self, settings: Settings) -> dict[str, Any]:
        """For `status`: the phase, its budget and the usual seconds between two records."""
        phase, budget = rhythm.budget(self.memory, settings.stall_after, settings.stall_start)
        return {
            "phase": phase,
            "budget": budget,
            "usual": rhythm.usual(self.memory),
            "resting": self.memory.get("resting", False),
        }


def _doing(moment: Moment) -> str:
    """What the process does meanwhile, as far as it is known."""
    record = moment.record
    beat = record.values.get("heartbeat_age")
    if record.state == "alive":
        cpu, doing, pid = record.values.get("process_cpu_percent"), record.ids.get("doing", ""), record.ids.get("pid", "")
        if doing == "stopped":
            how = "is stopped (SIGSTOP)"
        elif doing == "blocked":
            how = "is blocked in the kernel (a disk, a file system, a device)"
        elif cpu is None or AT_REST < cpu <= BUSY:
            how = "is alive"
        else:
            how = f"is alive and works ({cpu:.0f} % of a core)" if cpu > BUSY else "is alive and waits (no processor time)"
        return f"; silent, not dead: process {pid} {how}"
    if beat is not None and beat < moment.settings.stall_after / 2:
        return "; the status file is still being touched"
    return "; whether its process lives is not known" if record.state == "unknown" else ""
