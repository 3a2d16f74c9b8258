from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.baseline import MATURE

NOISES = 3.0
GAIN = 0.5
RECORDS = 15


class RewardCollapse(Rule):
    """A reward that has fallen away from its best and does not come back.

    What it watches: `reward`, as its level (median of the last 21 admitted values) against its best level.

    Why it matters: in reinforcement learning the loss says little; a collapsed policy shows in the reward.

    Formula: level below its best by more than 3 noises and more than half of what the run had gained
    (best level - first level), for 15 records in a row.

    Judges from: 40 values.

    What to do: resume from the best checkpoint; raise the KL penalty, lower the learning rate.
    """

    severity = "critical"
    family = "reward"
    metrics = ("reward",)
    rearm = RECORDS

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        base, memory = moment.baselines[metric], self.memory
        if base.admitted < MATURE:
            return None
        level = base.level
        if "first" not in memory:
            memory.update(first=level, best=level, step=moment.step, low=0)
        if level >= memory["best"]:
            memory.update(best=level, step=moment.step, low=0)
            return None
        best, first = memory["best"], memory["first"]
        fallen = best - level > GAIN * (best - first) and best > first and best - level > NOISES * base.noise * base.unit
        memory["low"] = min(RECORDS, memory["low"] + 1) if fallen else 0
        if memory["low"] < RECORDS:
            return None
        return Verdict(
            message=f"reward has fallen from its level {best:.4g} (step {memory['step']}) to {level:.4g} at {moment.where}",
            advice="Resume from the best checkpoint; raise the KL penalty or lower the learning rate.",
            metric=metric, value=level, baseline=best, threshold=best - GAIN * (best - first), number="detected",
            strategy="level",
        )  # fmt: skip
