import math

from smart_monitor.rules import Moment, Rule, Verdict

EVERY = 5
SLACK = 0.5
DECISION = 10.0
CUT = 4.0


class Drift(Rule):
    """A loss that creeps upwards, too slowly for any spike.

    What it watches: `loss`: the sum of the standardised distances of its short mean above its level.

    Why it matters: colour for what the other rules say: when the creeping began.

    Formula: one-sided CUSUM (Page 1954) at every 5th admitted value: S = max(0, S + z - 0.5), told at S > 10,
    then reset; z is the distance of the mean of the last `loss_window`/2 from the median of the last 21, in
    standard errors of that mean, cut at 4, so that no single spike decides it.

    Judges from: 20 values.

    What to do: watch the evaluation; if it rises as well, lower the learning rate.
    """

    severity = "info"
    metrics = ("loss",)
    rearm = 100

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        base = moment.baselines[metric]
        if base.admitted % EVERY or not base.mature:
            return None
        memory = self.memory
        if base.admitted == memory.get("at"):  # what was set aside meanwhile brings nothing new
            return None
        memory["at"] = base.admitted
        if base.mean <= base.level and not memory.get("sum"):
            return None
        score = base.score(base.mean) * math.sqrt(len(base.short))
        before = memory.get("sum", 0.0)
        total = max(0.0, before + min(score, CUT) - SLACK) if score - score == 0 else before
        memory["sum"] = total
        if not before:
            memory["onset"] = [moment.record.index, moment.step]
        if total <= DECISION:
            return None
        memory["sum"], onset = 0.0, memory["onset"]
        return Verdict(
            message=f"loss has crept upwards since step {onset[1]}; its mean is {base.mean:.4g} at {moment.where}",
            advice="Watch the evaluation; if it rises as well, lower the learning rate.",
            metric=metric, value=base.mean, baseline=base.level, threshold=DECISION, score=total, strategy="cusum",
            onset_record=onset[0], onset_step=onset[1],
        )  # fmt: skip
