import math
from decimal import Decimal

from smart_monitor.model import RECORD, Finding
from smart_monitor.rules import Moment, Rule, Verdict

LATELY = 10
REPEATS = 3
ROUNDED = 5
"""Times the smallest number that a log writes with its decimals, up to which a loss may well be rounded to 0.0."""
FALLEN = 0.1
"""Share of where it began that it must have come down to."""


class MaskedNan(Rule):
    """A loss of exactly 0.0 that hides a NaN.

    What it watches: `loss` == 0.0 together with `grad_norm`.

    Why it matters: Hugging Face's Trainer drops non-finite losses from its logs by default
    (`logging_nan_inf_filter`), so that a run of NaN shows as 0.0, and a naive monitor calls it the best
    model ever.

    Formula: loss == 0.0 while grad_norm is not finite, or is missing though one of the last 10 training
    rows gave it: critical. From a source that never gave grad_norm, 0.0 means "not given"; three new
    steps of it in a row are a warning; info, and no checkpoint is kept, where the loss had come down to a tenth of
    where it began and to 5 of the last decimal that the log writes, for then it is rounded to 0.0. Rows that report
    an evaluation are not asked.

    Judges from: the first record.

    What to do: as for a NaN; set `logging_nan_inf_filter=False` to see the real values.
    """

    severity = "critical"
    snapshot = True
    family = "loss"
    listens = (RECORD,)

    def keeps(self, finding: Finding) -> bool:
        return finding.severity != "info"

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        memory, values = self.memory, moment.values
        if "loss" not in values and not moment.zero_loss:
            return self._still(moment) if memory.get("out") else None
        zero = moment.zero_loss or values.get("loss") == 0.0
        norm = values.get("grad_norm")
        if not zero and norm is not None and memory.get("quiet"):
            return None  # the usual row, as the one before it
        memory["quiet"] = not zero and norm is not None
        if zero and moment.evaluation and norm is None:
            return self._still(moment) if memory.get("out") else None
        since = memory["since"] = 0 if norm is not None else min(memory.get("since", LATELY), LATELY) + 1
        if not zero or (norm is not None and math.isfinite(norm)):
            memory["out"] = memory["zeros"] = 0
            return None
        if norm is not None or since <= LATELY:
            memory["out"] = 1
            return self._still(moment)
        memory["zeros"] = min(REPEATS, memory.get("zeros", 0) + (moment.step != memory.get("step")))
        memory["step"] = moment.step
        if memory["zeros"] < REPEATS:
            return None
        rounded = _rounded(moment)
        return Verdict(
            message=f"loss is exactly 0.0 for the third step in a row at {moment.where}, and "
            + ("it was hardly more than the log writes of it before" if rounded else "no gradient norm says why"),
            advice="Write the loss with more digits."
            if rounded
            else "Check whether the trainer masks NaN as 0.0 or writes 0.0 where it has no loss.",
            metric="loss", value=0.0, strategy="repeated_zero", severity="info" if rounded else "warning",
        )  # fmt: skip

    def _still(self, moment: Moment) -> Verdict:
        norm = moment.values.get("grad_norm")
        why = "the gradient norm is missing though it was just given" if norm is None else f"the gradient norm is {norm}"
        return Verdict(
            message=f"loss 0.0 at {moment.where} hides a NaN: {why}",
            advice="Stop; resume from the last good checkpoint; set logging_nan_inf_filter=False to see the real loss.",
            metric="loss", value=0.0, strategy="masked", evidence={"grad_norm": norm},
        )  # fmt: skip


def _rounded(moment: Moment) -> bool:
    """Had the loss come down to the last decimal that the log writes?"""
    base = moment.baselines.get("loss")
    if base is None or not base.seen or not 0 < base.level <= FALLEN * base.beginning:
        return False
    decimals = min(Decimal(repr(v)).as_tuple().exponent for v in base.seen)
    return isinstance(decimals, int) and base.level <= ROUNDED * 10.0**decimals
