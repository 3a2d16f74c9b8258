import math

from smart_monitor.rules import RESTART, Moment, Rule, Verdict

COMPARED = ("loss", "eval_loss", "accuracy", "eval_accuracy", "reward")


class Restart(Rule):
    """The run was (re)started: a new attempt begins.

    What it watches: step and epoch of training rows, and the writer's pid, run id and file.

    Why it matters: a loss that jumps because training began anew is no spike; every level starts
    afresh, and only the noise is carried over.

    Formula: the step falls by more than 5 usual step increments or back to its beginning, the epoch
    falls by 2 or back to its first, or an identity word changes.

    Judges from: the second record.

    What to do: nothing, if you restarted it; many of them mean a job that crashes and is requeued. What the
    record gives is told beside the level that the attempt before had left: a run that goes on from a checkpoint
    goes on at its level; if it does not, the weights may not have been loaded.
    """

    severity = "info"
    listens = (RESTART,)
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        values, before = moment.values, moment.before
        known = {m: before[m] for m in COMPARED if m in before and math.isfinite(values.get(m, math.nan))}
        compared = "".join(f"; {m} {values[m]:.4g}, its level was {level:.4g}" for m, level in known.items())
        return Verdict(
            message=f"attempt {moment.attempt} begins at {moment.where}: {moment.restarted}{compared}",
            advice="Nothing, if you restarted it; if it was to go on from a checkpoint, it goes on at the level it had.",
            evidence={"before": known} if known else {},
            number=f"attempt_{moment.attempt}",
            strategy="identity" if "changed" in moment.restarted else "fall",
        )
