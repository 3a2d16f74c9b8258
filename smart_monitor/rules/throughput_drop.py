from smart_monitor.config import Settings
from smart_monitor.rules import ANY, Moment, Rule, Verdict
from smart_monitor.stats.shapes import SPEEDS

SHARE = 0.5
RECORDS = 5


class ThroughputDrop(Rule):
    """A run that has become much slower.

    What it watches: tokens, steps, samples or examples a second, whichever it gives (`tokens_per_sec`,
    `tokens_per_second`, `steps_per_second` and so on).

    Why it matters: a throttled GPU, a slow data loader or a sick node doubles the bill without an error.

    Formula: below half of its own level (median of the last 21 admitted values), and out of its noise, for 5
    records in a row.

    Judges from: 20 values.

    What to do: look at GPU clocks, the data loader and the slowest rank.
    """

    severity = "warning"
    family = "progress"
    metrics = SPEEDS
    sets_aside = True
    rearm = RECORDS

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return ANY

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        speed, base, memory = moment.values[metric], moment.baselines[metric], self.memory
        limit = SHARE * base.level
        if not 0 <= speed < limit or not base.mature or not base.stands_out(speed):
            if memory:
                memory.pop(metric, None)
            return None
        memory[metric] = min(RECORDS, memory.get(metric, 0) + 1)
        if memory[metric] < RECORDS:
            return None
        share = f"{100 * (speed / base.level):.0f}"
        return Verdict(
            message=f"{metric} {speed:.4g} at {moment.where} is {share} % of its level ({base.level:.4g})",
            advice="Look at GPU clocks, the data loader, and the slowest rank.",
            metric=metric, value=speed, baseline=base.level, threshold=limit, number=f"{share}pct", strategy="relative",
        )  # fmt: skip
