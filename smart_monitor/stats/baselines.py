"""The baselines of one attempt: each is made when its metric first comes, for most runs give few of all that could be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from smart_monitor.stats.baseline import Baseline


class Baselines(dict[str, Baseline]):
    """Metric -> its baseline. One of `metrics` that has not come yet is made when it is asked for by `[]`, and only then."""

    __slots__ = ("_fresh", "metrics")

    def __init__(self, metrics: Iterable[str], fresh: Callable[[str], Baseline]) -> None:
        super().__init__()
        self.metrics = tuple(metrics)
        """Those that have a baseline, in the order in which they are judged."""
        self._fresh = fresh

    def __missing__(self, metric: str) -> Baseline:
        if metric not in self.metrics:
            raise KeyError(metric)
        made = self[metric] = self._fresh(metric)
        return made

    def meet(self, names: Iterable[str]) -> list[str]:
        """Which of `names` have a baseline, in the order in which they are judged; from now on they are there."""
        met = set(names)
        return [metric for metric in self.metrics if metric in met and self[metric] is not None]

    def successors(self) -> Baselines:
        """Those of the next attempt."""
        heirs = Baselines(self.metrics, self._fresh)
        heirs.update((metric, base.successor()) for metric, base in self.items())
        return heirs

    def restore(self, states: dict[str, dict[str, object]]) -> None:
        """Go on from the states of each, as far as its metric is still judged."""
        for metric, saved in states.items():
            if metric in self.metrics:
                self[metric].restore(saved)
