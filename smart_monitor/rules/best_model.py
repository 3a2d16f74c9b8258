import math

from smart_monitor.model import RECORD
from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.baseline import YOUNG_FACTOR, Baseline

WARM_UP = 3
CHANCE = 2.5
ORDER = ("eval_loss", "loss", "accuracy")


class BestModel(Rule):
    """A new best model, by more than the noise of chance.

    What it watches: `eval_loss` if the run ever gives it, else `loss` (of records whose gradient norm,
    if given, is finite), else `accuracy`.

    Why it matters: trainers rotate checkpoints by age; the best one must survive.

    Formula: value < (1 - `best_improvement`) x the last *announced* best (2 %); for accuracy, above it
    by that share of the way to 100. With the noise guard the step must also be larger than 2.5 noises (a
    young run: than 4 times its largest step change), or a noisy plateau would be full of bests. The first
    value is the reference and not announced. A loss of exactly 0.0 is never best. `best_loss` in the
    metadata is the true minimum.

    Judges from: 3 earlier values.

    What to do: nothing; deploy or resume from this snapshot.
    """

    severity = "info"
    snapshot = True
    metrics = ORDER
    listens = (RECORD,)
    baselined = False
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        memory = self.memory
        if not metric:
            if moment.restarted and (moment.step or 0) <= 0.1 * memory.get("top", 0):
                memory.clear()  # a run begun anew owes nothing to the bests of the one before
            memory["top"] = max(memory.get("top", 0), moment.step or 0)
            return None
        value = moment.values[metric]
        norm = moment.values.get("grad_norm")
        if not math.isfinite(value) or (metric == "loss" and norm is not None and not math.isfinite(norm)):
            return None
        known = memory.setdefault(metric, {"count": 0, "announced": value, "best": value, "step": moment.step})
        known["count"] += 1
        better = value > known["best"] if metric == "accuracy" else value < known["best"]
        if better:
            known["best"], known["step"] = value, moment.step
        if known["count"] <= WARM_UP or any(m in memory for m in ORDER[: ORDER.index(metric)]):
            return None
        base = moment.baselines.get(metric)
        if base is not None and base.guard and base.mature and not known.get("settled"):
            # The first value of a run that starts flat is one draw from its noise; its level says more.
            known["settled"] = True
            if not known.get("told") and abs(base.level - known["announced"]) <= CHANCE * base.noise * base.unit:
                known["announced"] = base.level
        last, share = known["announced"], moment.settings.best_improvement
        limit = last + share * (100 - last) if metric == "accuracy" else last - share * abs(last)
        if not (value > limit if metric == "accuracy" else value < limit) or not self._beyond_chance(base, abs(value - last)):
            return None
        known["told"] = True
        known["announced"] = value
        return Verdict(
            message=f"new best {metric} {value:.4f} at {moment.where} (was {last:.4f})",
            advice="Nothing to do: the checkpoint is kept.",
            metric=metric, value=value, baseline=last, threshold=limit, number=f"{metric}_{value:.4f}", strategy="improvement",
        )  # fmt: skip

    @staticmethod
    def _beyond_chance(base: Baseline | None, step: float) -> bool:
        if base is None or not base.guard:
            return True
        return step >= (CHANCE * base.noise * base.unit if base.mature else YOUNG_FACTOR * base.largest_change)
