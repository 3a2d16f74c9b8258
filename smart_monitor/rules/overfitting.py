from smart_monitor.rules import Moment, Rule, Verdict, percent

EVALUATIONS = 3
RISE = 0.05
STEPS = 9
MOST_PATIENCE = 96


class Overfitting(Rule):
    """The evaluation gets worse while the training loss still falls.

    What it watches: `eval_loss` at every evaluation, against `loss`.

    Why it matters: from the best evaluation on, every step makes the model worse at what it is for.

    Formula: eval_loss has stood more than 5 % above its minimum, and by more than twice its own median step,
    for 3 evaluations in a row (twice as many after every time that a new best proved it wrong), while the
    level of the training loss is below what it was at that minimum (Prechelt 1998, generalisation loss, with
    patience).

    Judges from: 4 evaluations.

    What to do: stop at the step named and take that checkpoint; more data, more regularisation.
    """

    severity = "warning"
    family = "generalisation"
    metrics = ("eval_loss",)
    baselined = False

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        value, memory = moment.values[metric], self.memory
        base = moment.baselines.get("loss")
        if not value > 0 or value - value != 0 or base is None or not base.admitted:
            return None
        if value == memory.get("last"):  # the evaluation before, shown again
            return self._verdict(moment, value) if memory["told"] else None
        steps: list[float] = memory.setdefault("steps", [])
        steps.append(abs(value - memory.get("last", value)))
        if len(steps) > STEPS:
            del steps[0]
        memory["last"] = value
        if "best" not in memory or value <= memory["best"]:
            if memory.get("told"):  # it was no overfitting after all: this run's evaluations need more patience
                memory["patience"] = min(2 * memory.get("patience", EVALUATIONS), MOST_PATIENCE)
            memory.update(best=value, step=moment.step, train=base.level, above=0, told=False)
            return None
        beyond = max(RISE * memory["best"], 2 * sorted(steps)[len(steps) // 2])
        worse = value - memory["best"] > beyond and base.level < memory["train"]
        memory["above"] = memory["above"] + 1 if worse else 0
        # Once told it stands until a new best evaluation: the same trouble is not told twice.
        memory["told"] = memory["told"] or memory["above"] >= memory.get("patience", EVALUATIONS)
        return self._verdict(moment, value) if memory["told"] else None

    def _verdict(self, moment: Moment, value: float) -> Verdict:
        best, step = self.memory["best"], self.memory["step"]
        rise, where = percent(100 * (value / best - 1)), "" if step is None else f" at step {step}"
        return Verdict(
            message=f"eval_loss {value:.4g} at {moment.where} is {rise} % above its best ({best:.4g}{where}) while the training "
            "loss still falls",
            advice=f"Stop; the checkpoint nearest to its best{where} generalises best.",
            metric="eval_loss", value=value, baseline=best, threshold=best * (1 + RISE), number=f"{rise}pct",
            strategy="generalisation_loss", evidence={"stop_at_step": step},
        )  # fmt: skip
