from smart_monitor.rules import FAILURE, Moment, Rule, Verdict


class RuleFailed(Rule):
    """A rule (one of ours, or a plug-in) broke on a record.

    What it watches: the other rules.

    Why it matters: what that rule should have seen, nobody sees; it must not take the rest with it.

    Formula: the rule raised an exception, could not be loaded, or answered what is no verdict; told once an
    attempt for each rule.

    Judges from: the first record.

    What to do: report it with the journal of the run; `disabled_rules` switches the rule off.
    """

    severity = "warning"
    listens = (FAILURE,)
    rearm = 0

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        told: list[str] = self.memory.setdefault("told", [])
        new = {name: error for name, error in moment.failures if name not in told}
        if not new:
            return None
        told.extend(new)
        name, error = next(iter(new.items()))
        return Verdict(
            message=f"rule {name} failed at {moment.where}: {error}",
            advice="Report it with the run's journal; disabled_rules switches the rule off.",
            number=name,
            strategy="exception",
            evidence={"failures": [[name, error] for name, error in list(new.items())[:8]]},
        )
