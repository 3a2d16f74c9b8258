from smart_monitor.model import RECORD
from smart_monitor.rules import Moment, Rule, Verdict


class RuleFailed(Rule):
    """A rule (one of ours, or a plug-in) broke on a record.

    What it watches: the other rules.

    Why it matters: what that rule should have seen, nobody sees; it must not take the rest with it.

    Formula: the rule raised an exception; told once, until a record passes without.

    Judges from: the first record.

    What to do: report it with the journal of the run; `disabled_rules` switches the rule off.
    """

    severity = "warning"
    listens = (RECORD,)

    def judge(self, moment: Moment, metric: str) -> Verdict | None:
        if not moment.failures:
            return None
        name, error = moment.failures[0]
        return Verdict(
            message=f"rule {name} failed at {moment.where}: {error}",
            advice="Report it with the run's journal; disabled_rules switches the rule off.",
            number=name,
            strategy="exception",
            evidence={"failures": [list(f) for f in moment.failures[:8]]},
        )
