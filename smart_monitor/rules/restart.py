from smart_monitor.rules import RESTART, Moment, Rule, Verdict


class Restart(Rule):
    """The run was (re)started: a new attempt begins.

    What it watches: step and epoch of training rows, and the writer's pid, run id and file.

    Why it matters: a loss that jumps because training began anew is no spike; every level starts
    afresh, and only the noise is carried over.

    Formula: the step falls by more than 5 usual step increments or back to its beginning, the epoch
    falls by 2 or back to its first, or an identity word changes.

    Judges from: the second record.

    What to do: nothing, if you restarted it; many of them mean a job that crashes and is requeued.
    """

    severity = "info"
    listens = (RESTART,)
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        return Verdict(
            message=f"attempt {moment.attempt} begins at {moment.where}: {moment.restarted}",
            advice="Nothing, if you restarted it.",
            number=f"attempt_{moment.attempt}",
            strategy="identity" if "changed" in moment.restarted else "fall",
        )
