import math

from smart_monitor.config import Settings
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.rules._layers import layers, listed

RECORDS = {"dead_layers": 5, "stopped_layers": 5, "still_layers": 3}
SAID = {
    "dead_layers": (
        "get gradients of exactly zero",
        "Look for dead activations, a mask of zeros, or a detached branch before them.",
    ),
    "stopped_layers": ("get no gradient any more", "Look for what was frozen or detached, and whether that was meant."),
    "still_layers": (
        "have gradients, but do not move",
        "Check that the optimiser was given them, and the learning rate of their group.",
    ),
}


class LayerFrozen(Rule):
    """Layers that no longer learn while others do.

    What it watches: `dead_layers` (gradients of exactly zero), `stopped_layers` (had a gradient and have none any
    more) and `still_layers` (have one, but their weights do not change), which the probe counts; it names them in
    `dead_layer/NAME` and so on. Layers that were frozen from the start are not counted.

    Why it matters: a dead block, a branch that was detached, a group that the optimiser was never given: the loss
    still falls, and a part of the model is dead weight.

    Formula: the count is above 0 for 5 records in a row that give it; of `still_layers`, measured seldom, 3.

    Judges from: 3 records.

    What to do: look at the layers named; one that was frozen on purpose can be passed over.
    """

    severity = "warning"
    family = "gradient"
    metrics = tuple(RECORDS)
    baselined = False

    def calm(self, settings: Settings) -> tuple[float, float] | None:
        return -math.inf, 0.5

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        count, memory = moment.values[metric], self.memory
        if not 1 <= count < math.inf or (metric == "still_layers" and moment.values.get("learning_rate") == 0.0):
            memory.pop(metric, None)
            return None
        records = RECORDS[metric]
        memory[metric] = min(records, memory.get(metric, 0) + 1)
        if memory[metric] < records:
            return None
        names = list(layers(moment.values, f"{metric[:-1]}/"))
        said, advice = SAID[metric]
        many = "" if count == 1 else "s"
        return Verdict(
            message=f"{count:g} layer{many} {said} for {records} records at {moment.where}{listed(names, ': ')}",
            advice=advice, metric=metric, value=count, threshold=0.0, number=metric, strategy="count", evidence={"layers": names},
        )  # fmt: skip
