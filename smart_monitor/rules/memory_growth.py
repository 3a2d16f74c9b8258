from smart_monitor.model import TICK
from smart_monitor.rules import Moment, Rule, Verdict

TICKS = 3
BELOW = 5.0
"""Points below the limit at which it is over."""
HOST = {"host_memory_percent": "the host's memory", "container_memory_percent": "the container's memory (its cgroup's limit)"}
END = "_memory_percent"


class MemoryGrowth(Rule):
    """The host, the container or a GPU is running out of memory.

    What it watches: the memory in use on every tick: the host's, that of the trainer's cgroup where it has a limit (without
    file pages that are free to go), and each GPU's where `nvidia-ml-py` is installed (extra `gpu`).

    Why it matters: the kernel ends the largest process, and that is the training; on a GPU the next longer batch fails.

    Formula: more than `memory_limit` (90 %) in use on 3 ticks in a row; once, until it has been 5 points below the limit for 3
    ticks. A GPU only informs: frameworks keep what they have freed, so a nearly full one is common.

    Judges from: 3 ticks.

    What to do: look for a leak in the data loader's workers; save soon. On a GPU: a smaller batch, checkpointed activations.
    """

    severity = "warning"
    family = "host"
    listens = (TICK,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        limit, values = moment.settings.memory_limit, moment.record.values
        # A GPU that is gone is no longer full.
        full = self.memory["full"] = {name: n for name, n in self.memory.get("full", {}).items() if name in values}
        fresh = [name for name in values if name.endswith(END) and self._turns(full, name, values[name], limit)]
        out = [name for name, ticks in full.items() if ticks >= TICKS]
        if not out:
            return None
        name = max(fresh or out, key=lambda n: (n in HOST, values[n]))
        used, what = values[name], HOST.get(name) or f"the memory of GPU {name.removesuffix(END).removeprefix('gpu')}"
        host = name in HOST
        advice = "Look for a leak in the data loader's workers; save soon." if host else "Expect the next longer batch to fail."
        return Verdict(
            message=f"{used:.0f} % of {what} is in use",
            advice=advice, metric=name, value=used, threshold=limit, number=f"{used:.0f}pct", strategy="limit",
            severity=None if host else "info", anew=bool(fresh), evidence={"full": sorted(out)},
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
