from smart_monitor.model import RECORD, STATE, TICK
from smart_monitor.rules import Moment, Rule, Verdict

RHYTHM = 20
FACTOR = 6.0
RESTING = ("idle", "completed", "crashed")


class Stall(Rule):
    """A run that has stopped making steps, though nobody said it ended.

    What it watches: the time between records, on every tick.

    Why it matters: a hung collective, a dead data loader or a full disk costs a night of GPU hours
    without a single line in the log.

    Formula: seconds since the last record > max(`stall_after` (300 s), 6 x the longest of the last 20
    intervals, also of the attempt before): slow evaluations and saves are part of the rhythm. Idle, completed and crashed runs do
    not stall, nor does one we cannot see (`blind` says that).

    Judges from: 2 records.

    What to do: look at the process (py-spy dump), the data loader and the other ranks.
    """

    severity = "warning"
    family = "progress"
    listens = (RECORD, STATE, TICK)
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        record, memory = moment.record, self.memory
        if record.kind == STATE:
            memory["resting"] = record.state in RESTING
            return None
        if record.seen is None:
            return None
        if record.kind == RECORD:
            self._record(record.seen, counts=not record.historical and not moment.restarted)
            return None
        last, gaps = memory.get("last"), memory.get("gaps", [])
        if last is None or not gaps or memory.get("resting") or record.values.get("blind"):
            return None
        silent, budget = record.seen - last, max(moment.settings.stall_after, FACTOR * max(gaps))
        if silent <= budget:
            return None
        alive = record.values.get("heartbeat_age")
        beat = " though the status file is still being touched" if alive is not None and alive < budget / 2 else ""
        return Verdict(
            message=f"no new step for {silent:.0f} s{beat}; the longest of the last intervals was {max(gaps):.1f} s",
            advice="Look at the training process: a hung collective, the data loader, a full disk.",
            metric="seconds_since_record", value=round(silent, 3), baseline=max(gaps), threshold=budget, strategy="rhythm",
        )  # fmt: skip

    def _record(self, seen: float, *, counts: bool) -> None:
        memory = self.memory
        last = memory.get("last")
        if last is not None and counts:
            # A clock set back gives a negative interval; it says nothing about the rhythm.
            memory["gaps"] = [*memory.get("gaps", []), max(0.0, seen - last)][-RHYTHM:]
        memory["last"], memory["resting"] = seen, False
