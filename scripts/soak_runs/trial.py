"""One trial: sound training, trouble, damage, the end, and what must hold."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.soak_runs import checks
from scripts.soak_runs.faults import FAULTS, LONG, CannotRun, Damage
from scripts.soak_runs.monitor import Monitor, wait
from scripts.soak_runs.trainer import Trainer

PATIENCE = 180.0
"""Seconds until a monitor has told how its promises went; three retries take 72 s, copies on a busy machine more."""

SOUND = 25
"""Steps that the monitor has seen before there is trouble."""


@dataclass(frozen=True)
class Outcome:
    number: int
    fault: str
    wrong: tuple[str, ...] = ()
    kept: bool = False
    """Does a snapshot of the trouble hold a checkpoint?"""
    skipped: str = ""
    seconds: float = 0.0
    directory: str = ""
    """Left there to be looked at, if anything is wrong."""


class Trial:
    """The trainer, the monitor and the directories of one trial."""

    def __init__(self, number: int, seed: int) -> None:
        self.chance = random.Random(seed * 1_000_003 + number)
        self.directory = Path(tempfile.mkdtemp(prefix=f"soak-{number}-"))
        self.base, self.out = self.directory / "run", self.directory / "out"
        self.trainer = Trainer(self.base, self.chance)
        self.monitor = Monitor(self.base, self.out)
        self.wrong: list[str] = []

    def slow_copies(self) -> None:
        """Copies that take long enough for something to happen to them."""
        self.monitor.environment["SMART_MONITOR_COPY_RATE_MB"] = str(self.chance.choice((1, 4, 0)))

    def play(self, damage: Damage) -> bool:
        """The whole of it; what is wrong is in `wrong`. Whether a checkpoint was kept."""
        self.monitor.start()
        if not wait(lambda: list(self.out.glob("logs/*.log")), 60):
            self.wrong.append("the monitor did not start")
        self.trainer.start()
        # Trouble is trouble only to who has seen sound steps before it: on a busy machine it sees one in many.
        wait(lambda: self.trainer.step >= 40 and len(self.trainer.versions) >= 2 and self.monitor.judged() >= SOUND, 90)
        time.sleep(self.chance.uniform(0.0, 0.3))
        self.trainer.trouble = self.chance.choice((float("nan"), 9.0))
        damage()
        time.sleep(self.chance.uniform(0.0, 0.5))
        settled = wait(self.monitor.settled, PATIENCE)
        self.trainer.finish()
        if (code := self.monitor.stop()) != 0:
            self.wrong.append(f"the monitor ended with {code}")
        self.wrong += checks.violations(self.trainer, self.out)
        if not settled and not checks.stuck_aloud(self.out):
            self.wrong.append(f"promises are open after {PATIENCE:g} s and nothing says why")
        return checks.kept_a_checkpoint(self.out)


def run(number: int, seed: int, only: str = "") -> Outcome:
    """One trial, in a process of its own or not; its directory is gone afterwards unless something is wrong."""
    trial, began = Trial(number, seed), time.monotonic()
    chosen = [f for f in FAULTS if not only or f.__name__ == only]
    [fault] = trial.chance.choices(chosen, [LONG.get(f, 1.0) for f in chosen])
    try:
        with fault(trial) as damage:
            kept = trial.play(damage)
    except CannotRun as error:
        shutil.rmtree(trial.directory, ignore_errors=True)
        return Outcome(number, fault.__name__, skipped=str(error))
    except Exception as error:
        trial.wrong.append(f"the trial itself failed: {type(error).__name__}: {error}")
        kept = False
    finally:
        trial.monitor.end()
    if not trial.wrong:
        shutil.rmtree(trial.directory, ignore_errors=True)
    left = str(trial.directory) if trial.wrong else ""
    return Outcome(number, fault.__name__, tuple(trial.wrong), kept, "", time.monotonic() - began, left)
