from smart_monitor.model import OUTCOME
from smart_monitor.rules import Moment, Rule, Verdict


class SnapshotFailed(Rule):
    """A snapshot could not be written, or not be copied to the remote for an hour.

    What it watches: the outcome of every snapshot, and of its copy to the remote.

    Why it matters: the checkpoint that was to be kept may be rotated away before we try again.

    Formula: the store reports `failed` after its retries: no space, no permission, a dead worker. Copies to
    the remote have failed for `remote_patience` seconds (3600 by default) without one success between.

    Judges from: the first outcome.

    What to do: make room or mend the permissions; what is still open is tried again by itself.
    """

    severity = "warning"
    listens = (OUTCOME,)
    of_the_run = True
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if moment.record.state == "unsent":
            return Verdict(
                message=f"snapshots stand on this machine only: {moment.record.note}",
                advice="`smart-monitor status` says how it goes; it is tried again by itself.",
                strategy="remote",
            )
        if moment.record.state != "failed":
            return None
        return Verdict(
            message=f"snapshot failed: {moment.record.note}",
            advice="Free disk space or mend the permissions; the snapshot is tried again.",
            strategy="store",
        )
