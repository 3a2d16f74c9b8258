"""The rule table of the README is what the rules say of themselves."""

from __future__ import annotations

from pathlib import Path

from smart_monitor.registry import rule_classes, summary

README = Path(__file__).parents[1] / "README.md"


def table() -> str:
    rows = ["| rule | severity | snapshot | what it says |", "|---|---|---|---|"]
    rows += [f"| `{n}` | {c.severity} | {'yes' if c.snapshot else 'no'} | {summary(n)} |" for n, c in rule_classes().items()]
    return "\n".join(rows)


def test_the_readme_lists_every_rule_as_it_describes_itself():
    assert table() in README.read_text(encoding="utf-8")
