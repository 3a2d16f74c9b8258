import math

from smart_monitor.model import Finding
from smart_monitor.rules import RESTART, Moment, Rule, Verdict
from smart_monitor.stats.attempts import RETRACED

COMPARED = ("loss", "eval_loss", "accuracy", "eval_accuracy", "reward")
CURVE = "curve"
CONTINUED = "Nothing, if you restarted it; if it was to go on from a checkpoint, it goes on at the level it had."
APPENDED = (
    "Nothing, if another training was appended to this log; else what was learned is lost: resume from a checkpoint before it."
)


class Restart(Rule):
    """The run was (re)started: a new attempt begins.

    What it watches: step and epoch of training rows, and the writer's pid, run id and file.

    Why it matters: a loss that jumps because training began anew is no spike; every level starts
    afresh, and only the noise is carried over.

    Formula: the step falls by more than 5 usual step increments or back to its beginning, the epoch
    falls by 2 or back to its first, or an identity word changes. In a log whose rows count nothing (no step but their own
    number, no epoch, time or learning rate), a loss that stands out and leaps to within 5 % of the very first,
    from half of that or less: another training was appended, or all that was learned is lost, which the
    log does not tell apart. That one is a warning, keeps a checkpoint, and is told in place of a spike.

    Judges from: the second record; the leap from 20 values.

    What to do: nothing, if you restarted it; many of them mean a job that crashes and is requeued. What the
    record gives is told beside the level that the attempt before had left: a run that goes on from a checkpoint
    goes on at its level; if it does not, the weights may not have been loaded. If no training was appended where
    the loss leapt back: resume from the checkpoint kept, and let the trainer write its step.
    """

    severity = "info"
    listens = (RESTART,)
    rearm = 0

    def keeps(self, finding: Finding) -> bool:
        return finding.strategy == CURVE

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        values, before = moment.values, moment.before
        known = {m: before[m] for m in COMPARED if m in before and math.isfinite(values.get(m, math.nan))}
        compared = "".join(f"; {m} {values[m]:.4g}, its level was {level:.4g}" for m, level in known.items())
        by_curve = RETRACED in moment.restarted
        return Verdict(
            message=f"attempt {moment.attempt} begins at {moment.where}: {moment.restarted}{compared}",
            advice=APPENDED if by_curve else CONTINUED,
            evidence={"before": known} if known else {},
            number=f"attempt_{moment.attempt}",
            strategy=CURVE if by_curve else "identity" if "changed" in moment.restarted else "fall",
            severity="warning" if by_curve else None,
        )
