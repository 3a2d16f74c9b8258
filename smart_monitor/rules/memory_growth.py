from itertools import pairwise
from statistics import median

from smart_monitor.model import TICK
from smart_monitor.rules import ELSEWHERE, Moment, Rule, Verdict

TICKS = 3
BELOW = 5.0
"""Points below the limit at which it is over."""
HOST = {"host_memory_percent": "the host's memory", "container_memory_percent": "the container's memory (its cgroup's limit)"}
END = "_memory_percent"
APART, SAMPLES = 120.0, 16
"""Seconds between two samples of the trend at least, and how many it is told from."""
RISE, SOON = 0.5, 7200.0
"""Points from one quarter of the samples to the next at least, and seconds within which it would be full."""


class MemoryGrowth(Rule):
    """The host, the container or a GPU is running out of memory.

    What it watches: the memory in use on every tick: the host's, that of the trainer's cgroup where it has a limit (without
    file pages that are free to go), and each GPU's where `nvidia-ml-py` is installed (extra `gpu`).

    Why it matters: the kernel ends the largest process, and that is the training; on a GPU the next longer batch fails.

    Formula: more than `memory_limit` (90 %) in use on 3 ticks in a row; once, until it has been 5 points below the limit for 3
    ticks. A GPU only informs: frameworks keep what they have freed, so a nearly full one is common. Of several runs of one
    monitor on one host, or in one container, one alarms and the others inform. Growth only informs, too: of 16 samples at least
    two minutes apart while training each quarter's median is above the one before by half a point, and at that pace the limit
    is reached within two hours.

    Judges from: 3 ticks; growth from 16 samples.

    What to do: look for a leak in the data loader's workers; save soon. On a GPU: a smaller batch, checkpointed activations.
    """

    severity = "warning"
    family = "host"
    listens = (TICK,)
    of_the_run = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        limit, values = moment.settings.memory_limit, moment.record.values
        # A GPU that is gone is no longer full.
        full = self.memory["full"] = {name: n for name, n in self.memory.get("full", {}).items() if name in values}
        fresh = [name for name in values if name.endswith(END) and self._turns(full, name, values[name], limit)]
        out = [name for name, ticks in full.items() if ticks >= TICKS]
        if not out:
            return self._growth(moment, next((name for name in reversed(HOST) if name in values), ""), limit)
        name = max(fresh or out, key=lambda n: (n in HOST, values[n]))
        used, what = values[name], HOST.get(name) or f"the memory of GPU {name.removesuffix(END).removeprefix('gpu')}"
        host = name in HOST
        advice = "Look for a leak in the data loader's workers; save soon." if host else "Expect the next longer batch to fail."
        return Verdict(
            message=f"{used:.0f} % of {what} is in use",
            advice=advice, metric=name, value=used, threshold=limit, number=f"{used:.0f}pct", strategy="limit",
            severity=None if host and name + ELSEWHERE not in values else "info", anew=bool(fresh),
            evidence={"full": sorted(out)},
        )  # fmt: skip

    def _growth(self, moment: Moment, name: str, limit: float) -> Verdict | None:
        """Will it be full soon, as it has been growing?"""
        now, used, past = moment.record.seen, moment.record.values.get(name), self.memory.get("past", [])
        if now is None or used is None or moment.step is None:
            return None
        if not past or now - past[-1][0] >= APART:
            past = self.memory["past"] = [*past, [now, used]][-SAMPLES:]
        if len(past) < SAMPLES:
            return None
        quarter = SAMPLES // 4
        levels = [median(v for _, v in past[at : at + quarter]) for at in range(0, SAMPLES, quarter)]
        if any(b - a < RISE for a, b in pairwise(levels)):
            return None
        pace = (levels[-1] - levels[0]) / (past[-1][0] - past[0][0]) * SAMPLES / (SAMPLES - quarter)
        left = (limit - used) / pace
        if not 0 < left <= SOON:
            return None
        when = f"{used:.0f} % now, {limit:.0f} % in {left / 60:.0f} min"
        return Verdict(
            message=f"{HOST[name]} in use grows by {3600 * pace:.0f} points an hour: {when}",
            advice="Look for a leak: tensors kept with their graph, growing lists, the data loader's workers.",
            metric=name, value=used, threshold=limit, number="growing", strategy="growth", severity="info",
        )  # fmt: skip

    @staticmethod
    def _turns(full: dict[str, int], name: str, used: float, limit: float) -> bool:
        """Count a tick; is it full as of this one? Below zero are counted the ticks at which a full one was not."""
        count = full.get(name, 0)
        if used > 100 or used < 0 or used != used:
            return False
        if 0 <= count < TICKS:
            count = count + 1 if used > limit else 0
            if count:
                full[name] = count
            else:
                full.pop(name, None)
            return count == TICKS
        calm = used <= max(0.0, limit - BELOW)
        full[name] = count + 1 if calm else TICKS
        if full[name] >= 2 * TICKS:
            del full[name]
        return False
