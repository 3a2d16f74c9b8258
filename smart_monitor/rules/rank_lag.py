from smart_monitor.model import TICK
from smart_monitor.rules import PEER, Moment, Rule, Verdict
from smart_monitor.stats.crew import Behind, words

MORE = 2
"""It is told anew when so many times the ranks are concerned."""


class RankLag(Rule):
    """One rank is not where the others are.

    What it watches: of a run whose ranks write files or rows of their own, how far each has come, and whose loss is no
    number while the others' are. Ranks that write nothing are not missed, nor those of before a restart.

    Why it matters: ranks train in lockstep. One that stops, crawls or breaks alone points at its machine: a sick GPU, a
    full disk, a network that is down; and it holds up or poisons all the others.

    Formula: the step that half of the ranks have reached - its own > 5 x the largest usual move (steps that any rank
    advances between two arrivals of its lines, fading by 5 % each), for `rank_lag_after` seconds (10); over at half of
    that. Or: its loss or gradient norm is not finite while all other ranks went past that step with one that is.

    Judges from: 2 ranks that gave 3 records each since the run last began.

    What to do: look at the machine of that rank: its log, `nvidia-smi`, `dmesg`, py-spy on its process.
    """

    severity = "warning"
    family = "ranks"
    listens = (PEER, TICK)
    of_the_run = True
    survives = True

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        crew, memory = moment.crew, self.memory
        behind = crew.look(moment.record.seen, moment.settings.rank_lag_after)
        alone = crew.alone()
        ranks = sorted({b.rank for b in behind} | {rank for rank, _ in alone})
        if not ranks:
            memory.pop("told", None)
            return None
        told = memory.setdefault("told", len(ranks))
        anew = len(ranks) >= MORE * told
        if anew:
            memory["told"] = len(ranks)
        return self._behind(behind, ranks, moment, anew=anew) if behind else self._alone(alone, len(crew), anew=anew)

    @staticmethod
    def _behind(behind: list[Behind], ranks: list[int], moment: Moment, *, anew: bool) -> Verdict:
        worst, usual = behind[0], moment.crew.usual
        what = "stopped at" if worst.still else "is only at"
        more = f" (concerned are {words(ranks)})" if len(ranks) > 1 else ""
        return Verdict(
            message=f"rank {worst.rank} {what} step {worst.step} while the others reached step {usual}{more}",
            advice="Look at that rank's machine: its log, nvidia-smi, dmesg, py-spy on its process.",
            metric="steps_behind", value=float(worst.steps), baseline=float(usual), threshold=worst.allowed,
            number=f"rank_{worst.rank}", strategy="stopped" if worst.still else "behind", rank=worst.rank, anew=anew,
            evidence={"ranks": ranks, "steps": {str(b.rank): b.step for b in behind[:16]}},
        )  # fmt: skip

    @staticmethod
    def _alone(alone: list[tuple[int, int]], of: int, *, anew: bool) -> Verdict:
        (rank, step), ranks = alone[0], [r for r, _ in alone]
        return Verdict(
            message=f"{words(ranks)} of {of} alone reports a loss or gradient that is no number, since step {step}",
            advice="Look at that rank's data and machine: a sick GPU or a bad shard spoils one rank only.",
            metric="loss", number=f"rank_{rank}", strategy="alone_nan", rank=rank, anew=anew,
            evidence={"ranks": ranks, "steps": {str(r): s for r, s in alone[:16]}},
        )  # fmt: skip
