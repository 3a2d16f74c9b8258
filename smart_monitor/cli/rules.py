"""`smart-monitor rules`: the documentation of the rules, which is their docstrings."""

from __future__ import annotations

import json

import click

from smart_monitor.cli._options import as_json


@click.command()
@click.argument("name", required=False)
@as_json
def command(name: str | None, json_: bool) -> None:
    """All rules in a table, or everything about one.

    \b
    Example:
      smart-monitor rules loss_spike
    """
    from smart_monitor.registry import documentation, rule_classes, summary

    rules = rule_classes()
    if name is not None and name not in rules:
        import difflib

        near = difflib.get_close_matches(name, rules, 1, 0.4)
        raise click.UsageError(f"No rule {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    chosen = [name] if name else list(rules)
    if json_:
        click.echo(json.dumps([
            {"name": n, "severity": rules[n].severity, "snapshot": rules[n].snapshot, "documentation": documentation(n)}
            for n in chosen
        ], indent=2))  # fmt: skip
    elif name:
        kept = "a snapshot is kept" if rules[name].snapshot else "no snapshot"
        click.echo(f"{name}   {rules[name].severity}, {kept}\n\n{documentation(name)}")
    else:
        width = max(map(len, rules))
        for n, rule in rules.items():
            click.echo(f"{n:<{width}}  {rule.severity:<8}  {'snapshot' if rule.snapshot else '-':<8}  {summary(n)}")
