from smart_monitor.model import TICK
from smart_monitor.rules import ELSEWHERE, Moment, Rule, Verdict

GIB = 2**30
TIMES = 2
"""The limit of the copies: below twice that much the next checkpoint may be the one that does not fit."""


class DiskLow(Rule):
    """The disk the run writes to is nearly full.

    What it watches: free bytes where we write, on every tick.

    Why it matters: the next checkpoint fails half-written, and ours cannot be copied.

    Formula: less free than twice `min_free_gb` (2 GiB by default, so 4). Of several runs of one monitor on one disk one
    alarms and the others inform.

    Judges from: the first tick.

    What to do: free space, or let the trainer keep fewer checkpoints.
    """

    severity = "warning"
    family = "host"
    listens = (TICK,)
    of_the_run = True
    rearm = 3

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        free, limit = moment.record.values.get("disk_free_bytes"), TIMES * moment.settings.min_free_gb * GIB
        if free is None or not 0 <= free < limit:
            return None
        return Verdict(
            message=f"only {free / GIB:.1f} GiB are free where the run's snapshots go",
            advice="Free space, or let the trainer keep fewer checkpoints.",
            metric="disk_free_bytes", value=free, threshold=limit, number=f"{free / GIB:.1f}gib", strategy="limit",
            severity="info" if "disk_free_bytes" + ELSEWHERE in moment.record.values else None,
        )  # fmt: skip
