from smart_monitor.model import RECORD, TICK
from smart_monitor.rules import Moment, Rule, Verdict


class SourceDegraded(Rule):
    """A file that values came from can't be seen any more, and nothing else gives any.

    What it watches: whether every source that has given records can still be read, while another one can
    (if none can, that is `blind`).

    Why it matters: what is left may give less, seldom or nothing, and looks healthy.

    Formula: a source that gave records unreadable for `blind_after` seconds (30), and no record from any
    other since. Not asked once the run has completed or crashed.

    Judges from: the first tick.

    What to do: `smart-monitor status` names it and says why; what is left is judged meanwhile.
    """

    severity = "warning"
    family = "sight"
    listens = (TICK,)
    of_the_run = True
    ended_by = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        seconds = moment.record.values.get("source_lost", 0.0)
        if seconds < moment.settings.blind_after:
            return None
        which = moment.record.note or "a source"
        return Verdict(
            message=f"{which} can't be seen for {seconds:.0f} s, and nothing else gives values since",
            advice="See what became of that file; `smart-monitor status` says what is still read.",
            metric="source_lost", value=seconds, threshold=moment.settings.blind_after, strategy="sight",
        )  # fmt: skip
