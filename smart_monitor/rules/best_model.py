from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.baseline import YOUNG_FACTOR, Baseline

WARM_UP = 3
CHANCE = 1.75
ORDER = ("eval_loss", "loss", "accuracy")
ANEW = 0.1
"""A restart at less than this share of the steps already made is a run begun anew."""


class BestModel(Rule):
    """A new best model, by more than the noise of chance.

    What it watches: `eval_loss` if the run ever gives it, else `loss` (of records whose gradient norm,
    if given, is finite), else `accuracy`.

    Why it matters: trainers rotate checkpoints by age; the best one must survive.

    Formula: value < (1 - `best_improvement`) x the last *announced* best (2 %); for accuracy, above it
    by that share of the way to 100. With the noise guard a loss must also be better by more than 1.75
    times its step noise (interquartile range of its changes / 1.349, at least 1 %; a young run: 4 times
    its largest step change), or a noisy plateau would be full of bests. The first value is the reference
    and not announced. A loss of exactly 0.0 is never best. `best_loss` in the metadata is the true
    minimum.

    Judges from: 3 earlier values.

    What to do: nothing; deploy or resume from this snapshot.
    """

    severity = "info"
    snapshot = True
    metrics = ORDER
    baselined = False
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        memory, value = self.memory, moment.values[metric]
        if moment.restarted:
            self._restart(moment.step or 0)
        norm = moment.values.get("grad_norm", 0.0) if metric == "loss" else 0.0
        if value - value != 0 or norm - norm != 0:
            return None
        if value == 0.0 and metric != "accuracy":
            return None
        known = memory.get(metric)
        if known is None:
            known = memory[metric] = {"count": 0, "announced": value, "best": value, "step": moment.step}
        if known["count"] <= WARM_UP:
            known["count"] += 1
        if moment.step is not None and moment.step > memory.get("top", 0):
            memory["top"] = moment.step
        better = value > known["best"] if metric == "accuracy" else value < known["best"]
        if better:
            known["best"], known["step"] = value, moment.step
        elif "settled" in known:
            return None
        base = moment.baselines.get(metric)
        if base is not None and base.mature and base.guard and not known.get("settled"):
            # The first value of a run that starts flat is one draw from its noise; its level says more.
            known["settled"] = True
            if not known.get("told") and abs(base.level - known["announced"]) <= CHANCE * base.step_noise * base.unit:
                known["announced"] = base.level
        if not better or known["count"] <= WARM_UP or any(m in memory for m in ORDER[: ORDER.index(metric)]):
            return None
        last, share = known["announced"], moment.settings.best_improvement
        limit = last + share * (100 - last) if metric == "accuracy" else last - share * abs(last)
        if not (value > limit if metric == "accuracy" else value < limit) or not self._beyond_chance(base, abs(value - last)):
            return None
        known["told"] = True
        known["announced"] = value
        shown = f"{value:.4f}" if 1e-3 <= abs(value) < 1e9 else f"{value:.4g}"
        return Verdict(
            message=f"new best {metric} {shown} at {moment.where} (was {last:.4g})",
            advice="Nothing to do: the checkpoint is kept.",
            metric=metric, value=value, baseline=last, threshold=limit, number=f"{metric}_{shown}", strategy="improvement",
        )  # fmt: skip

    def _restart(self, step: int) -> None:
        """A run begun anew owes nothing to the bests of the one before; a resumed one does."""
        if step < ANEW * self.memory.get("top", 0):
            self.memory.clear()

    @staticmethod
    def _beyond_chance(base: Baseline | None, step: float) -> bool:
        if base is None or not base.guard:
            return True
        return step >= (CHANCE * base.step_noise * base.unit if base.mature else YOUNG_FACTOR * base.largest_change)
