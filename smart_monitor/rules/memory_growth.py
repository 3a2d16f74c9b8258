from smart_monitor.model import TICK
from smart_monitor.rules import Moment, Rule, Verdict

LIMIT = 90.0
TICKS = 3


class MemoryGrowth(Rule):
    """The host is running out of memory.

    What it watches: the host's memory in use, on every tick.

    Why it matters: the kernel ends the largest process, and that is the training.

    Formula: more than 90 % in use on 3 ticks in a row.

    Judges from: 3 ticks.

    What to do: look for a leak in the data loader's workers; save soon.
    """

    severity = "warning"
    family = "host"
    listens = (TICK,)
    rearm = TICKS

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        used = moment.record.values.get("host_memory_percent", 0.0)
        self.memory["high"] = min(TICKS, self.memory.get("high", 0) + 1) if LIMIT < used <= 100 else 0
        if self.memory["high"] < TICKS:
            return None
        return Verdict(
            message=f"{used:.0f} % of the host's memory is in use",
            advice="Look for a leak in the data loader's workers; save soon.",
            metric="host_memory_percent", value=used, threshold=LIMIT, number=f"{used:.0f}pct", strategy="limit",
        )  # fmt: skip
