from smart_monitor.model import RECORD, TICK
from smart_monitor.rules import Moment, Rule, Verdict


class Blind(Rule):
    """We cannot see the run: nothing to read, or nothing that can be read.

    What it watches: whether the last pass over the run's sources really observed something.

    Why it matters: a monitor that sees nothing looks exactly like a healthy run.

    Formula: nothing readable for `blind_after` seconds (30): file missing, torn, unreadable, too
    large, not a training status, directory gone.

    Judges from: the first tick.

    What to do: `smart-monitor doctor` says what is missing and how to mend it.
    """

    severity = "warning"
    family = "sight"
    listens = (TICK,)
    of_the_run = True
    ended_by = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        seconds = moment.record.values.get("blind", 0.0)
        if seconds < moment.settings.blind_after:
            return None
        return Verdict(
            message=f"blind for {seconds:.0f} s: {moment.record.note.rstrip('.')}",
            advice="Run `smart-monitor doctor` on this directory.",
            metric="blind", value=seconds, threshold=moment.settings.blind_after, strategy="sight",
        )  # fmt: skip
