from smart_monitor.model import RECORD, STATE
from smart_monitor.rules import Moment, Rule, Verdict


class ProcessGone(Rule):
    """The trainer says of itself that it crashed.

    What it watches: the state word of the status file (crashed, error, failed, killed, oom).

    Why it matters: nothing will be trained until somebody restarts it.

    Formula: the state becomes `crashed`; once, until a training record follows.

    Judges from: the first state.

    What to do: read the trainer's error (it stands in the message), then resume from the newest
    complete checkpoint.
    """

    severity = "critical"
    family = "progress"
    listens = (STATE,)
    ended_by = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        record = moment.record
        if record.state != "crashed":
            return None
        error = f": {record.note}" if record.note else ""
        return Verdict(
            message=f"the trainer reports that it crashed{error}",
            advice="Read the trainer's own log, then resume from the newest complete checkpoint.",
            strategy="state",
        )
