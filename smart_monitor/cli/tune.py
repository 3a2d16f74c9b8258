"""`smart-monitor tune`: backtests the settings on past runs and suggests some."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smart_monitor.cli._options import as_json
from smart_monitor.config import PRESETS

if TYPE_CHECKING:
    from smart_monitor.tuning import Result, Run, Score, Suggestion

A_SECOND = 25_000
"""Records judged in about a second."""


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--write", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the suggestion there."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@as_json
def command(paths: tuple[Path, ...], target: Path | None, force: bool, json_: bool) -> None:
    """Backtest the thresholds on your own past runs and suggest settings, with the numbers behind them.

    RUN is what replay takes: a JSONL file or a run's directory. Every run is judged as it is (what would have been
    told) and with loss spikes and accuracy drops put into it away from all alarms (what would have been found).
    The same runs always give the same answer; nothing of theirs is changed.

    \b
    Example:
      smart-monitor tune runs/llama-7b runs/old/*.jsonl --write runs/next/smart_monitor.toml
    """
    from smart_monitor.tuning import CAP, suggest, toml

    if target is not None and target.exists() and not force:
        raise click.UsageError(f"{target} is there already; --force replaces it.")
    runs = _runs(paths)
    result = _measured(runs, quiet=json_)
    suggestion = suggest(result)
    written = toml(result, suggestion, runs)
    if json_:
        click.echo(json.dumps(_document(runs, result, suggestion, written), indent=2))
    else:
        cut = [r.name for r in runs if r.cut]
        for name in cut:
            click.echo(f"{name}: only its first {CAP} records are used.")
        click.echo("\n".join(_table(runs, result, suggestion)) + "\n\n" + written)
    if target is not None:
        try:
            target.write_text(written, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{target}: {error.strerror}") from error
        click.echo(f"Wrote {target}.", err=True)


def _runs(paths: Sequence[Path]) -> list[Run]:
    from smart_monitor.replay import ReplayError, read
    from smart_monitor.tuning import take

    runs = []
    for path in paths:
        try:
            runs.append(take(*read(path)))
        except ReplayError as error:
            raise click.UsageError(str(error)) from error
    if not any(metric in r.values for run in runs for r in run.records for metric in ("loss", "accuracy", "eval_accuracy")):
        raise click.UsageError("no record of these runs gives a loss or an accuracy: there is nothing to tune.")
    return runs


def _measured(runs: Sequence[Run], *, quiet: bool) -> Result:
    from smart_monitor.tuning import passes, tune

    total = passes(runs)
    if quiet or total < A_SECOND or not sys.stderr.isatty():
        return tune(runs)
    with click.progressbar(length=total, label=f"Judging {sum(len(r.records) for r in runs)} records", file=sys.stderr) as bar:
        return tune(runs, bar.update)


def _rows(result: Result, suggestion: Suggestion) -> Iterator[tuple[str, Score, Score]]:
    from smart_monitor.tuning import WINDOW

    for guard, suffix in ((True, ""), (False, ", no guard")):
        for name, preset in PRESETS.items():
            spike, drop = preset["loss_spike_threshold"], preset["accuracy_drop_threshold"]
            yield name + suffix, result.loss[WINDOW, spike, guard], result.accuracy[WINDOW, drop, guard]
    yield "suggested", suggestion.loss, suggestion.accuracy


def _table(runs: Sequence[Run], result: Result, suggestion: Suggestion) -> Iterator[str]:
    put_in = f"{result.places} loss spikes and {result.accuracy_places} accuracy drops"
    yield f"{len(runs)} run{'s' * (len(runs) != 1)}, {result.records} records, into which {put_in} were put."
    yield "Alarms: per 1000 records of the runs as they are. Delay: median, in records."
    yield ""
    yield f"{'':22}{'loss spikes and divergence':>37}   {'accuracy drops':>25}"
    yield f"{'':22}{'alarms':>8}{'found':>9}{'of 2x up':>11}{'delay':>9}   {'alarms':>8}{'found':>9}{'delay':>8}"
    for name, loss, accuracy in _rows(result, suggestion):
        left = f"{loss.per_1000:>8.2f}{_share(loss.recall):>9}{_share(loss.clear_recall):>11}{_number(loss.delay):>9}"
        right = f"{accuracy.per_1000:>8.2f}{_share(accuracy.recall):>9}{_number(accuracy.delay):>8}"
        yield f"{name:<22}{left}   {right}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _document(runs: Sequence[Run], result: Result, suggestion: Suggestion, written: str) -> dict[str, Any]:
    sides = (("loss_spike_threshold", result.loss), ("accuracy_drop_threshold", result.accuracy))
    chosen = suggestion.choice
    return {
        "schema": 1,
        "runs": [{"name": r.name, "records": len(r.records), "cut": r.cut} for r in runs],
        "records": result.records,
        "injected": {"loss_spikes": result.places, "accuracy_drops": result.accuracy_places},
        "grid": [
            {"loss_window": window, name: threshold, "noise_guard": guard} | _score(score)
            for name, scores in sides for (window, threshold, guard), score in scores.items()
        ],
        "presets": {name: {"loss": _score(loss), "accuracy": _score(acc)} for name, loss, acc in _rows(result, suggestion)},
        "suggestion": {
            "loss_spike_threshold": chosen.spike, "accuracy_drop_threshold": chosen.drop, "loss_window": chosen.window,
            "noise_guard": chosen.guard,
        },
        "toml": written,
    }  # fmt: skip


def _score(score: Score) -> dict[str, Any]:
    return {
        "alarms": score.alarms, "alarms_per_1000": score.per_1000, "injected": score.injected, "found": score.found,
        "recall": score.recall, "recall_of_clear": score.clear_recall, "median_delay": score.delay,
    }  # fmt: skip
