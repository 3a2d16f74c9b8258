import math
from collections.abc import Mapping

from smart_monitor.model import RECORD
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.rules._layers import listed, not_finite

FLAGS = ("has_nan", "has_inf")
STEADY = 10
"""Records in a row that must have given a loss before a null in its place reads as a NaN."""
CORE = ("loss", "grad_norm", *FLAGS)
"""The metrics whose outage is told though others are out already, the most important first."""
FORGOTTEN = 1000
"""Records without a metric after which its NaN no longer counts as an outage."""
MAX_OUT, SHOWN = 64, 16


class NanValue(Rule):
    """A metric that is no longer a number.

    What it watches: every metric of every record, `has_nan` and `has_inf` flags, and a `loss` of null
    where the ten records before gave one (many encoders write NaN as null).

    Why it matters: one non-finite gradient step usually ruins the weights for good, and every rule
    that compares numbers is blind to it.

    Formula: not finite (IEEE 754), once an outage: it fires again after all metrics that were out came
    back (or were not heard of for 1000 records), or when the training itself (loss, grad_norm, a flag)
    goes out after a side metric did.

    Judges from: the first record; it never warms up.

    What to do: stop; resume from the last good checkpoint; check the data of the step, the loss scale
    and the learning rate.
    """

    severity = "critical"
    snapshot = True
    family = "loss"
    listens = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        memory, values = self.memory, moment.values
        out: dict[str, int] = memory.setdefault("out", {})
        fresh = False
        if out or not moment.finite or "has_nan" in values or "has_inf" in values:
            fresh = self._look(values, out)
        if "loss" in values or moment.zero_loss:
            if memory.get("steady", 0) < STEADY:
                memory["steady"] = memory.get("steady", 0) + 1
        elif "loss" in moment.record.nulls and not moment.evaluation:
            if memory.get("steady", 0) >= STEADY and "loss" not in out:
                fresh = bool(out) and not any(name in out for name in CORE)
                out["loss"] = 0
            memory["steady"] = 0
        return self._verdict(moment, out, fresh=fresh) if out else None

    def _look(self, values: Mapping[str, float], out: dict[str, int]) -> bool:
        """Who went out, who came back, who is heard of no more; does the training itself follow a side metric?"""
        for name in list(out):
            if name not in values and name != "loss":
                out[name] += 1
                if out[name] >= FORGOTTEN:
                    del out[name]
        beside = bool(out) and not any(name in out for name in CORE)
        fresh = False
        for name, value in values.items():
            bad = value == 1 if name in FLAGS else value - value != 0
            if not bad:
                out.pop(name, None)
            elif name in out or len(out) < MAX_OUT or name in CORE:
                fresh |= beside and name in CORE
                out[name] = 0
        return fresh

    def _verdict(self, moment: Moment, out: dict[str, int], *, fresh: bool) -> Verdict:
        values = moment.values
        name = min(out, key=_weight)
        value = values.get(name, math.nan)
        what = {"has_nan": "gradients with NaN", "has_inf": "gradients with Inf"}.get(name, f"{name} {value}")
        if name == "loss" and name not in values:
            what = "loss is null where every record before gave a number (encoders write NaN as null)"
        layers = [] if moment.finite else not_finite(values)
        return Verdict(
            message=f"{what} at {moment.where}{listed(layers, '; not finite in ')}",
            advice="Stop the run and resume from the last good checkpoint; check this step's data, loss scale and learning rate.",
            metric=name, value=value, number="" if name == "loss" else name, strategy="non_finite", anew=fresh,
            evidence={"metrics": list(out)[:SHOWN]} | ({"layers": layers} if layers else {}),
        )  # fmt: skip


def _weight(name: str) -> int:
    return CORE.index(name) if name in CORE else len(CORE)
