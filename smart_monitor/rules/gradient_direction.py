from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.rules._layers import SHARE, layers, listed

LIMIT = -0.5
RECORDS = 3


class GradientDirection(Rule):
    """Consecutive gradients that point against each other.

    What it watches: `grad_cosine`, the cosine similarity of consecutive gradients, where the trainer gives it.

    Why it matters: steps that undo one another are the mark of a learning rate beyond the edge of
    stability (Cohen et al. 2021), or of an optimiser whose state was lost.

    Formula: cosine < -0.5 for 3 records in a row.

    Judges from: 3 values.

    What to do: lower the learning rate; after a resume, check that the optimiser's state was loaded.
    """

    severity = "warning"
    family = "gradient"
    metrics = ("grad_cosine",)
    baselined = False

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        cosine = moment.values[metric]
        against = -1 <= cosine < LIMIT
        self.memory["against"] = min(RECORDS, self.memory.get("against", 0) + 1) if against else 0
        if self.memory["against"] < RECORDS:
            return None
        turned = layers(moment.values, SHARE)
        return Verdict(
            message=f"gradients turn back on themselves at {moment.where}: cosine {cosine:.2f} for {RECORDS} records"
            f"{listed(turned, '; most in ')}",
            advice="Lower the learning rate; after a resume, check that the optimiser's state was loaded.",
            metric=metric, value=cosine, threshold=LIMIT, number=f"{cosine:.2f}", strategy="cosine",
            evidence={"layers": turned} if turned else {},
        )  # fmt: skip
