import math
from operator import lt, sub

from smart_monitor.rules import Moment, Rule, Verdict
from smart_monitor.stats.baseline import LEVEL_WINDOW, NEW_LEVEL_MEMORY, Baseline

NET_RISE = 7.0
"""Step noises that the window must rise by in all, else a run of luck in pure noise would count."""
LEAST_RISE = 0.1
ONE_STEP = 0.75
"""Share of its rise that one step of a window may make up."""
KNOWN_RISE = 1.5
"""A window must rise by that much more than the last one that was told and came back (epoch saw-teeth)."""
APART = 3.5
"""Noises above the level that a rise by less than LEVEL_RISE must end: a smoothed loss wanders in steps so small that whatever
it does is many of them."""
LEVEL_RISE = 0.25
LEVEL_RECORDS = 15
LEVEL_GUARD = 4.0
TOO_NOISY = 0.75
"""Above this noise a level says nothing."""
WANDERING = 3.0
"""Root mean squares of its upward moves that a level must have risen by, times the root of the windows it took."""
MOST_WINDOWS = 6.0
MOVES, LATEST = 24, 4
"""Moves of the level from window to window that are remembered; the latest are those being judged."""
FAR = 3.0
"""Times its lowest that a level must stand at where the noise of the moment hides its rise."""
EPSILON = 1e-12


class Divergence(Rule):
    """A loss that keeps rising, or has settled above where it already was.

    What it watches: `loss`, over the last `loss_window` values and against its own best level.

    Why it matters: a run that diverges slowly shows no spike, and every step after the turn is lost
    compute.

    Formula: either at least `divergence_rising` (80 %) of neighbouring pairs in the last `loss_window`
    finite values rise, and the window as a whole rises by more than 7 step noises and 10 % to above the
    level (by 3.5 of the noises from before, where it rises by less than a quarter), by no more than three quarters of
    that in a single step, and 1.5 times more than the last rise that came back (any rise, without the guard); or the level
    (median of the last 21 admitted values) has stood more than 25 % and 4 noises above its lowest for
    15 records, the loss and the mean of the last `loss_window`/2 are there too, and the level is above its
    lowest by 3 times what its own wandering explains: the root mean square of its upward moves from window to
    window, times the root of the windows since its lowest (a level rule: gradual ramps come in noisy steps; where
    the level jumped, the spike said so; a level three times its lowest, and 8 of the noises from before, stands
    above whatever the noise has become). It is over once the level is within 12.5 % of its lowest.

    Judges from: a full window; the level rule from 30 values. Not on losses that take both signs.

    What to do: stop and resume from the last good checkpoint with a lower learning rate; look for a
    schedule or data change at the onset step.
    """

    severity = "warning"
    snapshot = True
    family = "loss"
    metrics = ("loss",)
    rearm = 10
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if self.memory.get("attempt") != moment.attempt:
            # How far this loss rises and comes back is of its noise, which carries over; levels start afresh.
            self.memory = {"attempt": moment.attempt} | {k: v for k, v in self.memory.items() if k == "rise"}
        return self._rising(moment, metric) or self._level(moment, metric)

    def _rising(self, moment: Moment, metric: str) -> Verdict | None:
        loss = moment.values[metric]
        base = moment.baselines[metric]
        need = moment.settings.loss_window - 1
        # Cheap questions first: a falling end or start leaves too few rises in most windows.
        seen = base.seen
        if len(seen) < need or loss - loss != 0 or not loss > seen[-need]:
            return None
        rise = (loss - seen[-need]) / base.unit if base.unit > 0 else 0.0
        if base.guard and (rise < LEAST_RISE or not self._beyond_noise(base, loss, rise)):
            return None
        window, rises = _window(base, loss, need)
        if rises < moment.settings.divergence_rising * need - EPSILON or (base.guard and _one_step_carries(window, loss)):
            return None
        self.memory["rise"] = rise
        onset = moment.history[-need] if len(moment.history) >= need else (moment.record.index, moment.step)
        return Verdict(
            message=f"loss rose in {rises} of its last {need} steps, from {window[0]:.4g} to {loss:.4g} at {moment.where}",
            advice="Lower the learning rate and resume from a checkpoint before the rise began.",
            metric=metric, value=loss, baseline=window[0], threshold=moment.settings.divergence_rising, score=base.score(loss),
            number="detected", strategy="rising", onset_record=onset[0], onset_step=onset[1],
            evidence={"rising_share": rises / need},
        )  # fmt: skip

    def _beyond_noise(self, base: Baseline, loss: float, rise: float) -> bool:
        # A young run has no noise to speak of: a full rising window is then all there is to go by.
        if base.negative:
            return False
        if not base.mature:
            return True
        return loss > base.level and rise >= self._least_rise(base) and (rise >= LEVEL_RISE or self._apart(base, loss))

    def _apart(self, base: Baseline, loss: float) -> bool:
        """Does it end above what its level has been left by before? The rise itself widens the noise of the moment."""
        before: float = min([*self.memory.get("noises", []), base.noise])
        return loss >= base.level * (1 + APART * before)

    def _least_rise(self, base: Baseline) -> float:
        """What the window as a whole must rise by, relative to the level."""
        if not base.mature:
            return LEAST_RISE
        usual = base.step_noise
        return max(LEAST_RISE, NET_RISE * usual, KNOWN_RISE * self.memory.get("rise", 0.0)) if usual > 0 else math.inf

    def compares(self, moment: Moment, metric: str) -> tuple[float, str] | None:
        base, loss, memory = moment.baselines[metric], moment.values[metric], self.memory
        share, need = moment.settings.divergence_rising, moment.settings.loss_window - 1
        if loss - loss != 0 or base.negative:
            return None
        said = [f"{len(base.seen)} of the {need} values a window needs"]
        if len(base.seen) >= need and base.unit > 0:
            window, rises = _window(base, loss, need)
            said = [f"{rises} of the last {need} steps rose, {math.ceil(share * need - EPSILON)} needed"]
            least = f", {self._least_rise(base):.1%} needed" if base.guard else ""
            said.append(f"they rose by {(rise := (loss - window[0]) / base.unit):.1%} in all{least}")
            if base.guard and base.mature and rise < LEVEL_RISE and not self._apart(base, loss):
                said.append(f"they end within {APART:g} of the noises from before")
        if "best" not in memory or not base.guard:
            return share, "; ".join(said)
        limit = memory["best"] * (1 + LEVEL_RISE)
        said.append(f"level {base.level:.4g} against {limit:.4g}, {LEVEL_RISE:.0%} above its best")
        said.append(f"above it for {memory['above']} records, {LEVEL_RECORDS} needed")
        return limit, "; ".join(said)

    def _level(self, moment: Moment, metric: str) -> Verdict | None:
        base, memory = moment.baselines[metric], self.memory
        if not base.guard or base.negative or len(base.recent.values) < LEVEL_RECORDS:
            return None
        level, admitted, best = base.level, base.admitted, memory.get("best")
        if not admitted % LEVEL_WINDOW:
            self._wander(base)
        if best is None or level <= best:
            memory["best"], memory["since"] = level, admitted
            memory["above"], memory["jumped"], memory["told"] = 0, False, False
            return None
        if level < best * (1 + LEVEL_RISE / 2):
            memory["jumped"] = memory["told"] = False
            memory["above"] = 0
            return None
        if base.settled < NEW_LEVEL_MEMORY:
            memory["jumped"] = True
        if not memory["told"] and not self._stands_above(base, best):
            memory["above"] = 0
            return None
        if not memory["above"]:
            memory["onset"] = [moment.record.index, moment.step]
        memory["above"] += 1
        if not memory["told"] and (memory["above"] < LEVEL_RECORDS or memory["jumped"] or not self._leaves(base, best)):
            return None
        loss, limit = moment.values[metric], best * (1 + LEVEL_RISE)
        if not memory["told"] and not (loss > limit and base.mean > limit):
            return None  # the level lags behind values that are down again
        memory["told"] = True
        return Verdict(
            message=f"loss has stood above {limit:.4g} for {memory['above']} records at {moment.where}; "
            f"its level is {level:.4g}, its best was {best:.4g}",
            advice="Resume from the best or the last good checkpoint; look for what changed at the onset step.",
            metric=metric, value=loss, baseline=best, threshold=limit, score=base.score(loss),
            number="detected", strategy="level", onset_record=memory["onset"][0], onset_step=memory["onset"][1],
        )  # fmt: skip

    def _stands_above(self, base: Baseline, best: float) -> bool:
        """Is the level further above its best than noise explains?"""
        level = base.level
        if level <= best * (1 + LEVEL_RISE):
            return False
        noise = base.noise
        if noise <= TOO_NOISY and level > best * (1 + LEVEL_GUARD * noise):
            return True
        # A long rise widens the noise itself, without end: how wide it was near the lowest level says enough then.
        before = max(self.memory.get("noises") or [math.inf])
        return bool(level > best * max(FAR, 1 + 2 * LEVEL_GUARD * before))

    def _leaves(self, base: Baseline, best: float) -> bool:
        """Is the level further above its best than its own wandering explains?"""
        moves = self.memory.get("moves", [])[:-LATEST]
        if not moves:
            return True
        upward = math.sqrt(2 * sum(m * m for m in moves) / max(len(moves), LATEST))
        windows = min(max((base.admitted - self.memory["since"]) / LEVEL_WINDOW, 1.0), MOST_WINDOWS)
        return math.log(base.level / best) > WANDERING * upward * math.sqrt(windows)

    def _wander(self, base: Baseline) -> None:
        """Remember the moves of the level (in logarithms) from window to window, and the noise near its lowest."""
        memory, level = self.memory, base.level
        if memory.get("at") == base.admitted or not level > 0:
            return
        before, memory["at"], memory["then"] = memory.get("then"), base.admitted, level
        if before:
            upward = min(max(math.log(level / before), 0.0), math.log(1 + LEVEL_RISE))
            memory["moves"] = [*memory.get("moves", []), upward][-MOVES:]
        if level < memory.get("best", level) * (1 + LEVEL_RISE / 2):
            memory["noises"] = [*memory.get("noises", []), base.noise][-2:]


def _one_step_carries(window: list[float], loss: float) -> bool:
    """Is most of the rise one of its steps? However high a single value stands, it is a spike and no course."""
    return bool(max(map(sub, window[1:], window)) > ONE_STEP * (loss - window[0]))


def _window(base: Baseline, loss: float, need: int) -> tuple[list[float], int]:
    """The last `need` values and `loss`, and in how many of its steps the window rises."""
    window = [*base.lately(need), loss]
    return window, sum(map(lt, window, window[1:]))
