import math
from typing import ClassVar

from smart_monitor.config import Settings
from smart_monitor.rules import Moment, Rule, Verdict

RECORDS = 20
NEARLY_DONE = 0.9


class LearningRateRange(Rule):
    """A learning rate outside of what trains.

    What it watches: `learning_rate`.

    Why it matters: a schedule with a slip in its units trains nothing, or destroys everything.

    Formula: rate > 1.0 (`learning_rate_max`) or < 0 at once; or 0 < rate < 1e-8 (`learning_rate_min`)
    for 20 records in a row before 90 % of the run,
    where the run says how long it is (schedules end near zero on purpose).

    Judges from: the first value.

    What to do: check the schedule: units, total steps, warm-up.
    """

    severity = "warning"
    family = "learning_rate"
    metrics = ("learning_rate",)
    baselined = False
    records: ClassVar[int] = RECORDS
    abrupt: ClassVar[float] = math.inf
    """A fall to below the least rate by more than this factor in one record, or a run that begins there, is told at once."""

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return settings.learning_rate_min, settings.learning_rate_max

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        rate, memory = moment.values[metric], self.memory
        low, high = moment.settings.learning_rate_min, moment.settings.learning_rate_max
        if low <= rate <= high or rate == 0.0 or rate - rate != 0:
            if memory:
                memory.clear()
            return None
        limit = high if rate > high else 0.0
        if 0 < rate < low:
            limit, total, step = low, moment.record.total, moment.step
            memory["low"] = min(self.records, memory.get("low", 0) + 1)
            sudden = moment.previous.get(metric, math.inf) > self.abrupt * rate
            if sudden:
                memory["sudden"] = 1
            lasting = memory["low"] >= self.records
            if "sudden" not in memory and (not lasting or total is None or step is None or step >= NEARLY_DONE * total):
                return None
        return Verdict(
            message=f"learning rate {rate:.3g} at {moment.where} is outside {low:g} to {high:g}",
            advice="Check the schedule: units, total steps, warm-up.",
            metric=metric, value=rate, threshold=limit, number=f"{rate:.3g}", strategy="range",
        )  # fmt: skip
