from smart_monitor.model import OUTCOME
from smart_monitor.rules import Moment, Rule, Verdict


class SnapshotFailed(Rule):
    """A snapshot could not be written.

    What it watches: the outcome of every snapshot.

    Why it matters: the checkpoint that was to be kept may be rotated away before we try again.

    Formula: the store reports `failed` after its retries: no space, no permission, a dead worker.

    Judges from: the first outcome.

    What to do: make room or mend the permissions; what is still open is tried again by itself.
    """

    severity = "warning"
    listens = (OUTCOME,)
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if moment.record.state != "failed":
            return None
        return Verdict(
            message=f"snapshot failed: {moment.record.note}",
            advice="Free disk space or mend the permissions; the snapshot is tried again.",
            strategy="store",
        )
