import math
from typing import ClassVar

from smart_monitor.config import Settings
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.rules._layers import NORM, layers, listed

SHARE = 0.01
RECORDS = 3


class GradientVanishing(Rule):
    """Gradients too small to learn from.

    What it watches: `grad_norm`.

    Why it matters: the loss stands still and nobody sees why: saturated units, a loss scale that
    underflows, a detached graph.

    Formula: 0 < norm < 1e-6 (`gradient_vanishing_threshold`) and below 1 % of the level it had when that
    began, for 3 records in a row. A norm of exactly zero is another fault, which `update_frozen` tells.

    Judges from: 3 earlier values.

    What to do: look at activations and initialisation, the loss scale, and whether the graph is detached.
    """

    severity = "warning"
    family = "gradient"
    metrics = ("grad_norm",)
    sets_aside = True
    share: ClassVar[float] = SHARE
    records: ClassVar[int] = RECORDS
    earlier: ClassVar[int] = 3
    """Admitted values from which it judges."""

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return settings.gradient_vanishing_threshold, math.inf

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        norm, memory = moment.values[metric], self.memory
        small = moment.settings.gradient_vanishing_threshold
        if not 0 < norm < small:
            if memory:
                memory.clear()
            return None
        base = moment.baselines[metric]
        if not memory and base.admitted >= self.earlier:
            memory.update(small=0, level=base.level)  # as it was: a norm that stays small becomes its own level
        if not memory or norm >= self.share * memory["level"]:
            memory.clear()
            return None
        memory["small"] = min(self.records, memory["small"] + 1)
        if memory["small"] < self.records:
            return None
        smallest = layers(moment.values, NORM)
        return Verdict(
            message=f"gradient norm {norm:.3g} at {moment.where}: vanishing"
            + (f" for {self.records} records, its level was {memory['level']:.3g}" if base.admitted else " from the beginning")
            + listed(smallest, "; smallest in "),
            advice="Look at activations, initialisation, the loss scale, and whether the graph is detached.",
            metric=metric, value=norm, baseline=memory["level"], threshold=small, number=f"{norm:.3g}", strategy="absolute",
            evidence={"layers": smallest} if smallest else {},
        )  # fmt: skip
