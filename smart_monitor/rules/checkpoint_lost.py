from smart_monitor.model import OUTCOME
from smart_monitor.rules import Moment, Rule, Verdict


class CheckpointLost(Rule):
    """A checkpoint that was to be kept vanished or was overwritten before it could be copied.

    What it watches: the outcome of every snapshot.

    Why it matters: the evidence is incomplete, and the metadata says so; a loss must never be silent.

    Formula: the store reports `lost` after its retries.

    Judges from: the first outcome.

    What to do: keep more checkpoints in the trainer (`save_total_limit`), or save less often.
    """

    severity = "warning"
    listens = (OUTCOME,)
    of_the_run = True
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if moment.record.state != "lost":
            return None
        return Verdict(
            message=f"checkpoint lost: {moment.record.note}",
            advice="Let the trainer keep more checkpoints, or save less often.",
            strategy="store",
        )
