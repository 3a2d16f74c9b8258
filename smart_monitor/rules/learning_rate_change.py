from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict, percent

SETTLED = 5


class LearningRateChange(Rule):
    """A learning rate that jumps where no schedule would.

    What it watches: `learning_rate`, from value to value.

    Why it matters: a wrong resume, a second parameter group or a hand-made change shows here first, and in
    the loss later.

    Formula: a change by more than 30 % (`learning_rate_change`) against the value before, that neither a
    constant step nor a constant factor explains (a line or a ratio through the last two different values:
    warm-up, cosine, polynomial and exponential schedules are smooth). Upwards beyond the highest rate of the
    attempt: a warning. Down (a milestone), or up to less than the run had: information. Back to its highest
    is a warm restart: nothing.

    Judges from: 5 values.

    What to do: if you did not mean it, check the resumed scheduler's state.
    """

    severity = "warning"
    family = "learning_rate"
    metrics = ("learning_rate",)
    baselined = False
    settled: ClassVar[int] = SETTLED

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        rate, memory = moment.values[metric], self.memory
        if not rate >= 0 or rate - rate != 0:
            return None
        if not memory:
            memory.update(seen=0, older=rate, last=rate, top=rate)
        before, verdict = memory["last"], None
        if memory["seen"] < self.settled:
            memory["seen"] += 1
        elif abs(rate - before) > moment.settings.learning_rate_change * before and before > 0:
            verdict = self._jump(moment, metric, before)
        if rate != before:
            # A jump is no schedule: the next one is not explained by it.
            memory["older"], memory["last"] = rate if verdict else before, rate
            if rate > memory["top"]:
                memory["top"] = rate
        return verdict

    def _jump(self, moment: Moment, metric: str, before: float) -> Verdict | None:
        rate, older, top = moment.values[metric], self.memory["older"], self.memory["top"]
        change = moment.settings.learning_rate_change
        line = before + (before - older)
        factor = before * (before / older) if older > 0 else line
        # A warm restart comes back to the top, give or take what the schedule makes of it between two rows.
        restart = rate > before and abs(rate - top) <= change * top
        if restart or min(abs(rate - line), abs(rate - factor)) <= change * before:
            return None
        shown, up = percent(100 * (rate / before - 1)), rate > (1 + change) * top
        return Verdict(
            message=f"learning rate went from {before:.3g} to {rate:.3g} at {moment.where} ({shown} %)",
            advice="If you did not mean it, check the state of the scheduler, above all after a resume.",
            metric=metric, value=rate, baseline=before, threshold=(1 + change) * (top if up else before), number=f"{shown}pct",
            strategy="jump" if up else "milestone", severity=None if up else "info",
        )  # fmt: skip
