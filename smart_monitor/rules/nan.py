import math

from smart_monitor.model import RECORD
from smart_monitor.rules import Moment, Rule, Verdict

FLAGS = ("has_nan", "has_inf")
STEADY = 10
"""Records in a row that must have given a loss before a null in its place reads as a NaN."""


class NanValue(Rule):
    """A metric that is no longer a number.

    What it watches: every metric of every record, `has_nan` and `has_inf` flags, and a `loss` of null
    where the ten records before gave one (many encoders write NaN as null).

    Why it matters: one non-finite gradient step usually ruins the weights for good, and every rule
    that compares numbers is blind to it.

    Formula: not finite (IEEE 754), once an outage: it fires again only after all metrics that were
    out came back.

    Judges from: the first record; it never warms up.

    What to do: stop; resume from the last good checkpoint; check the data of the step, the loss scale
    and the learning rate.
    """

    severity = "critical"
    snapshot = True
    family = "loss"
    listens = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        out: list[str] = self.memory.setdefault("out", [])
        values = moment.values
        for name, value in values.items():
            bad = value == 1 if name in FLAGS else not math.isfinite(value)
            if bad and name not in out and len(out) < 64:
                out.append(name)
            elif not bad and out and name in out:
                out.remove(name)
        self._null_loss(moment, out)
        if not out:
            return None
        name = "loss" if "loss" in out else out[0]
        value = values.get(name, math.nan)
        what = {"has_nan": "gradients with NaN", "has_inf": "gradients with Inf"}.get(name, f"{name} {value}")
        if name == "loss" and name not in values:
            what = "loss is null where every record before gave a number (encoders write NaN as null)"
        return Verdict(
            message=f"{what} at {moment.where}",
            advice="Stop the run and resume from the last good checkpoint; check this step's data, loss scale and learning rate.",
            metric=name, value=value, number="" if name == "loss" else name, strategy="non_finite", evidence={"metrics": list(out)},
        )  # fmt: skip

    def _null_loss(self, moment: Moment, out: list[str]) -> None:
        if "loss" in moment.values or moment.zero_loss:
            self.memory["steady"] = min(STEADY, self.memory.get("steady", 0) + 1)
        elif "loss" in moment.record.nulls and not moment.evaluation:
            if self.memory.get("steady", 0) >= STEADY and "loss" not in out:
                out.append("loss")
            self.memory["steady"] = 0
