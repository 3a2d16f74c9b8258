import math

from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.distances import kolmogorov_smirnov

WINDOW = 50
CRITICAL = 1.95


class RewardDistributionDrift(Rule):
    """Rewards that are no longer distributed as they were.

    What it watches: `reward`: its last 50 values against the 50 before them. Or `reward_distance` against
    `reward_distance_null`, where the trainer pools single rewards and gives both.

    Why it matters: an audit: a policy that found a loophole changes the distribution of its rewards at once.

    Formula: two-sample Kolmogorov-Smirnov statistic D x sqrt(n m / (n + m)) > 1.95, the 99.9 % quantile of its
    null distribution (Smirnov 1948), asked once every 50 values; told anew only after 100 values without it,
    for a policy that learns changes its rewards all the time. Of pools: D > the quantile of its own permutations.

    Judges from: 100 values.

    What to do: read some samples with high reward.
    """

    severity = "info"
    metrics = ("reward", "reward_distance")
    baselined = False
    rearm = 2 * WINDOW

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if metric == "reward_distance":
            return _against_null(moment, metric)
        reward, memory = moment.values[metric], self.memory
        now: list[float] = memory.get("now") or memory.setdefault("now", [])
        if reward - reward == 0:
            now.append(reward)
        if len(now) < WINDOW:
            return None
        now.sort()
        before, memory["before"], memory["now"] = memory.get("before"), now, []
        distance = kolmogorov_smirnov(before, now) if before else 0.0
        limit = CRITICAL / math.sqrt(WINDOW / 2)
        if distance <= limit:
            return None
        return Verdict(
            message=f"audit: the last {WINDOW} rewards at {moment.where} differ from the {WINDOW} before (D = {distance:.2f})",
            advice="Read some samples with high reward.",
            metric=metric, value=distance, threshold=limit, number=f"{distance:.2f}", strategy="kolmogorov_smirnov",
        )  # fmt: skip


def _against_null(moment: Moment, metric: str) -> Verdict | None:
    distance, null = moment.values[metric], moment.values.get("reward_distance_null", math.nan)
    if not null < distance <= 1:
        return None
    return Verdict(
        message=f"audit: rewards at {moment.where} differ from those before (D = {distance:.2f}; chance stays below {null:.2f})",
        advice="Read some samples with high reward.",
        metric=metric, value=distance, threshold=null, number=f"{distance:.2f}", strategy="null_quantile",
    )  # fmt: skip
