import math

from smart_monitor.config import Settings
from smart_monitor.rules import Moment, Rule, Verdict

RECORDS = 5
SMALL = 1e-9


class UpdateFrozen(Rule):
    """Weights that no longer move.

    What it watches: `grad_norm` and `update_ratio` (norm of the update / norm of the weights).

    Why it matters: a frozen layer list, a detached graph or a scaler that skips every step trains nothing
    and costs as much as training.

    Formula: grad_norm exactly 0, or update_ratio < 1e-9, for 5 records in a row while the learning rate is
    not zero.

    Judges from: 5 values.

    What to do: check which parameters require gradients and whether the loss scaler skips the steps.
    """

    severity = "warning"
    family = "gradient"
    metrics = ("grad_norm", "update_ratio")
    baselined = False

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return SMALL, math.inf

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        value, memory = moment.values[metric], self.memory
        limit = 0.0 if metric == "grad_norm" else SMALL
        if not 0 <= value <= limit or moment.values.get("learning_rate") == 0.0:
            if memory:
                memory.pop(metric, None)
            return None
        memory[metric] = min(RECORDS, memory.get(metric, 0) + 1)
        if memory[metric] < RECORDS:
            return None
        return Verdict(
            message=f"{metric} {value:g} for {RECORDS} records at {moment.where}: the weights do not move",
            advice="Check which parameters require gradients, and whether the loss scaler skips the steps.",
            metric=metric, value=value, threshold=limit, strategy="zero",
        )  # fmt: skip
