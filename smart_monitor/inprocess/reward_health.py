"""The health of a reward model: calibration and drift, each against what chance gives for as many values.

Fixed thresholds cry wolf on small samples (of 128 pairs a perfect model has a calibration error of 0.06, and PSI is
above 0.1 in 72 of 100 comparisons of equals). So every figure is reported with n, with the quantile of its own null
distribution, and whether it exceeds it. It is an audit, no predictor: a policy that learns changes its rewards, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from smart_monitor.config import Settings
from smart_monitor.inprocess.alerts import alert_of
from smart_monitor.inprocess.numbers import finite, flat
from smart_monitor.inprocess.options import positive
from smart_monitor.inprocess.panel import Panel
from smart_monitor.probe.rewards import null_calibration
from smart_monitor.stats.calibration import BINS, calibration, fitted_scale, quantile
from smart_monitor.stats.distances import Distances, distances, null_distances

LEVEL = 0.99
DRAWS = 499
BAR = 30
"""Characters of the longest bar of the drawn diagram."""
LEAST_POOL = 16


def reward_calibration(
    chosen: Any, rejected: Any, *, margin: Any = 0.0, bins: int = BINS, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """How well rewards of pairs agree with the preferences, by Bradley and Terry: P = sigmoid(chosen - rejected - margin).

    `margin`: what the model was trained to keep between them, one number or one a pair. Pairs that are not finite
    are dropped and counted. Returns n, dropped, accuracy, ece, brier, log_loss, scale (the factor on all differences
    that would fit best; below 1 the model is too sure), `null`: the `level` quantiles of ece and brier of a perfectly
    calibrated model, `exceeds`: which are above, `bins`: the reliability diagram, and level and draws.
    Raises ValueError for sequences of different length or without a finite pair.
    """
    won, lost = flat(chosen), flat(rejected)
    kept = flat(margin)
    if len(kept) == 1:
        kept *= len(won)
    if not len(won) == len(lost) == len(kept):
        raise ValueError(f"chosen, rejected and margin are of one length, not {len(won)}, {len(lost)} and {len(kept)}")
    margins = [m for m in (w - r - k for w, r, k in zip(won, lost, kept, strict=True)) if math.isfinite(m)]
    return _calibration(margins, bins, level, draws, seed) | {"dropped": len(won) - len(margins)}


def reward_drift(
    reference: Any, current: Any, *, bins: int = BINS, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """How far two pools of rewards (or of margins) are from one distribution.

    Returns n (both sizes), ks, wasserstein (in standard deviations), psi, `null`: the `level` quantile of each under
    random exchange between the pools, `p`: the share of exchanges that gave at least as much (Phipson and Smyth 2010,
    never 0), `exceeds`, and level, draws, bins. Raises ValueError if one holds no finite value.
    """
    old, new = finite(reference), finite(current)
    found, null = distances(old, new, bins), null_distances(old, new, draws, random.Random(seed).random, bins)
    names = Distances._fields
    limits = {name: quantile(column, level) for name, column in zip(names, null, strict=True)}
    shares = {
        name: (1 + sum(v >= value for v in column)) / (draws + 1) for name, value, column in zip(names, found, null, strict=True)
    }
    return {
        "n": (len(old), len(new)), **found._asdict(), "null": limits, "p": shares,
        "exceeds": [name for name, value in zip(names, found, strict=True) if value > limits[name]],
        "level": level, "draws": draws, "bins": bins,
    }  # fmt: skip


def reliability_diagram(report: Mapping[str, Any]) -> str:
    """The bins of a `reward_calibration` report as lines of text: confidence, how often right, how many."""
    lines = [f"confidence  right  n={report['n']}, ECE {report['ece']:.3f} (chance below {report['null']['ece']:.3f})"]
    for low, high, pairs, sure, right in report["bins"]:
        if pairs:
            bar = "#" * round(BAR * right)
            lines.append(f"{low:.2f}-{high:.2f}   {right:5.2f}  {bar:<{BAR}} {pairs:>6}  (said {sure:.2f})")
    return "\n".join(lines)


class RewardCalibrationDriftDetector:
    """Audits pools of rewards as training goes: each time `window_size` new values have come in, they are judged.

    Calibration of pairs: told when two pools in a row are above the null quantile of their calibration error.
    Distribution of rewards (of margins, where only pairs are given): each pool against the one before, by
    Kolmogorov-Smirnov's D against its permutations. level: the quantile. Everything it tells is information.
    """

    def __init__(self, window_size: int = 128, level: float = LEVEL, bins: int = BINS, *, repeat: bool = False) -> None:
        positive(window_size=window_size, level=level, bins=bins)
        if window_size < LEAST_POOL or not 0.5 <= level < 1:
            raise ValueError(f"window_size is at least {LEAST_POOL} and level in 0.5 to 1, not {window_size} and {level}")
        self.window_size, self.level, self.bins = int(window_size), level, int(bins)
        self.reports: dict[str, dict[str, Any]] = {}
        """`calibration` and `drift`: the last report of each."""
        self._draws = max(DRAWS, math.ceil(5 / (1 - level)))
        self._margins: list[float] = []
        self._rewards: list[float] = []
        self._before: list[float] = []
        self._audits = 0
        tuned = {"reward_calibration_drift": {"records": 2, "rearm": 2}, "reward_distribution_drift": {"rearm": 2}}
        self._panel = Panel(tuned, Settings(), tuned, repeat=repeat)

    def analyze_reward_drift(
        self, step: int, *, rewards: Any = None, chosen_rewards: Any = None, rejected_rewards: Any = None
    ) -> list[dict[str, Any]]:
        """Take in the rewards of a step. Raises ValueError if only one side of the pairs is given, or of other length."""
        if (chosen_rewards is None) != (rejected_rewards is None):
            raise ValueError("chosen_rewards and rejected_rewards are given together")
        margins: list[float] = []
        if chosen_rewards is not None:
            won, lost = flat(chosen_rewards), flat(rejected_rewards)
            if len(won) != len(lost):
                raise ValueError(f"chosen_rewards and rejected_rewards are of one length, not {len(won)} and {len(lost)}")
            margins = [m for m in (w - r for w, r in zip(won, lost, strict=True)) if math.isfinite(m)]
        self._margins += margins
        self._rewards += finite(rewards) if rewards is not None else margins
        found = []
        if len(self._margins) >= self.window_size:
            pool, self._margins = self._pool(self._margins), []
            found += self._audit_calibration(pool, step)
        if len(self._rewards) >= self.window_size:
            pool, self._rewards = self._pool(self._rewards), []
            found += self._audit_drift(pool, step)
        return found

    def _pool(self, values: list[float]) -> list[float]:
        """Of more than a window every k-th, so that a step costs one audit however many rewards it brings."""
        return values[:: len(values) // self.window_size][: self.window_size]

    def _audit_calibration(self, margins: Sequence[float], step: int) -> list[dict[str, Any]]:
        report = self.reports["calibration"] = _calibration(margins, self.bins, self.level, self._draws, self._seed())
        values = {"calibration_error": report["ece"], "calibration_error_null": report["null"]["ece"]}
        return [alert_of(f, "reward", report=report) for f in self._panel.judge(values, step)]

    def _audit_drift(self, rewards: list[float], step: int) -> list[dict[str, Any]]:
        before, self._before = self._before, rewards
        if not before:
            return []
        report = self.reports["drift"] = reward_drift(
            before, rewards, bins=self.bins, level=_strict(self.level), draws=_draws(self.level), seed=self._seed()
        )
        values = {"reward_distance": report["ks"], "reward_distance_null": report["null"]["ks"]}
        return [alert_of(f, "reward", report=report) for f in self._panel.judge(values, step)]

    def _seed(self) -> int:
        self._audits += 1
        return self._audits


def _strict(level: float) -> float:
    """One comparison decides, where two pools in a row decide on calibration: a tenth of the false alarms is allowed."""
    return 1 - (1 - level) / 10


def _draws(level: float) -> int:
    return max(DRAWS, math.ceil(1 / (1 - _strict(level))) - 1)


def _calibration(margins: Sequence[float], bins: int, level: float, draws: int, seed: int) -> dict[str, Any]:
    found = calibration(margins, bins)
    chance = null_calibration(
        torch.tensor(margins, dtype=torch.float64, device="cpu"), draws, torch.Generator("cpu").manual_seed(seed), bins
    )
    null = {name: quantile(sorted(c.tolist()), level) for name, c in zip(("ece", "brier"), chance, strict=True)}
    return {
        "n": found.pairs, "accuracy": found.accuracy, "ece": found.error, "brier": found.brier, "log_loss": found.log_loss,
        "scale": fitted_scale(margins), "null": null,
        "exceeds": [name for name, value in (("ece", found.error), ("brier", found.brier)) if value > null[name]],
        "bins": [tuple(b) for b in found.bins], "level": level, "draws": draws,
    }  # fmt: skip
