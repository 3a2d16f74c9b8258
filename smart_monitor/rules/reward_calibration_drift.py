import math
from typing import ClassVar

from smart_monitor.rules import Moment, Rule, Verdict

RECORDS = 3


class RewardCalibrationDrift(Rule):
    """A reward model whose confidence no longer matches how often it is right.

    What it watches: `calibration_error` against `calibration_error_null`, the 99 % quantile that the same
    number of pairs would give by chance (Bradley-Terry probabilities), where the trainer gives both.

    Why it matters: an audit, not a predictor: calibration drift is seen with reward hacking, but fixed
    thresholds cry wolf on small samples.

    Formula: calibration error > its own null quantile, for 3 records in a row.

    Judges from: 3 values of both.

    What to do: look at the pairs; recalibrate or refresh the reward model.
    """

    severity = "info"
    metrics = ("calibration_error",)
    baselined = False
    rearm = RECORDS
    records: ClassVar[int] = RECORDS

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        error, null = moment.values[metric], moment.values.get("calibration_error_null", math.nan)
        self.memory["off"] = min(self.records, self.memory.get("off", 0) + 1) if null < error < math.inf else 0
        if self.memory["off"] < self.records:
            return None
        return Verdict(
            message=f"audit: calibration error {error:.3g} at {moment.where}; chance alone stays below {null:.3g}",
            advice="Look at the pairs; recalibrate or refresh the reward model.",
            metric=metric, value=error, threshold=null, number=f"{error:.3g}", strategy="null_quantile",
        )  # fmt: skip
