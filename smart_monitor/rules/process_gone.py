from smart_monitor.model import RECORD, STATE, TICK
from smart_monitor.rules import Moment, Rule, Verdict


class ProcessGone(Rule):
    """The trainer crashed, or its process is gone.

    What it watches: the state word of the status file (crashed, error, failed, killed, oom), and the trainer's process (pid and
    time of creation) on every tick.

    Why it matters: nothing will be trained until somebody restarts it.

    Formula: the state becomes `crashed`, or the process that was seen alive is gone or a zombie and the run has neither said
    that it completed nor made its last step. A warning only, where the trainer never says what it is doing and the kernel does
    not tell how it ended. Once, until a training record follows. A process that can't be found here (another machine, another
    container) is unknown, not dead.

    Judges from: the first state; the first tick after it was seen alive.

    What to do: read the trainer's error (it stands in the message) or its own log, `dmesg` for the out-of-memory killer, then
    resume from the newest complete checkpoint.
    """

    severity = "critical"
    family = "progress"
    listens = (STATE, TICK)
    of_the_run = True
    ended_by = (RECORD,)
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        record, memory = moment.record, self.memory
        # Whether a record came since: only then is what ended by it told anew.
        place = [moment.attempt, moment.step, moment.history[-1][0] if moment.history else None]
        if record.kind == STATE:
            memory["crashed"] = place if record.state == "crashed" else None
            return self._crashed(record.note) if memory["crashed"] else None
        if record.state != "dead":
            return self._crashed("") if memory.get("crashed") == place and record.state != "finished" else None
        who = [record.ids.get("pid", "?"), record.ids.get("started", "")]
        told, at = memory.setdefault("dead", [who, place])
        if told == who and at != place:
            return None  # late lines of a process that was told to be dead
        memory["dead"] = [who, place]
        return Verdict(
            message=f"process {who[0]} ended without saying that it completed: {record.note}",
            advice="Read the trainer's own log (and dmesg: out of memory?), then resume from the newest complete checkpoint.",
            strategy="process", severity="warning" if record.ids.get("ended") == "untold" else None,
            evidence={"pid": who[0]},
        )  # fmt: skip

    @staticmethod
    def _crashed(note: str) -> Verdict:
        return Verdict(
            message="the trainer reports that it crashed" + (f": {note}" if note else ""),
            advice="Read the trainer's own log, then resume from the newest complete checkpoint.",
            strategy="state",
        )
