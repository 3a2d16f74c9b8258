"""Names before numbers, as people print them: `step 100 | loss 2.31`, `Epoch [3/10], Loss: 0.5`, `lr=1e-4`. Pure."""

from __future__ import annotations

import re
from typing import Any

from smart_monitor.aliases import FLAT
from smart_monitor.sources.positions import bracketed

_NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d{0,30})?(?!,\d{3})|\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][-+]?\d{1,4})?"
    r"|[-+]?(?:nan|inf(?:inity)?)\b"
)
# Every repeat is bounded and a name begins at the border of a word only: linear in the length of the line.
_NAMED = re.compile(
    rf"(?<![\w.])(?P<name>[a-z][\w/@%()-]{{0,60}}(?: [a-z(][\w/@%()-]{{0,40}}){{0,4}})"
    rf"(?P<between>\s{{0,8}}[:=]\s{{0,8}}|\s{{1,8}})(?:[\[(]|np\.float\d\d\(|tensor\()?\s{{0,8}}"
    rf"(?P<number>{_NUMBER})(?![:.]?\d)(?:\s{{0,8}}/\s{{0,8}}(?P<total>\d{{1,18}}))?",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"\[\s{0,8}(\d{1,18})\s{0,8}/\s{0,8}(\d{1,18})\b")
_EVALUATION = re.compile(
    # Behind the level and the name of a logger, if they stand there.
    r"(?:[^a-z]{0,40}\b(?:info|debug|warning)\b(?:[^\w]{1,4}[\w.]{1,40}(?=\s{0,2}[-:|\]]))?)?"
    r"[^\w]{0,16}(?:eval|evaluation|val|valid|validation|test|testing|saving dict)\b(?!\s{0,4}[_/])",
    re.IGNORECASE,
)
_LEVELS = re.compile(r"^(?:(?:info|debug|warning|error|critical|rank\d{0,6})\s+)+", re.IGNORECASE)
_PLACES = {"step", "global_step", "iter", "iteration", "num_updates", "epoch"}
_POSITIONS = {*_PLACES, "total_steps", "total_epochs", "batch_size"}
_OWN = {
    "lm_loss": "loss", "total_loss": "loss", "avg_loss": "loss", "average_loss": "loss", "avr_loss": "loss", "step_loss": "loss",
    "batch_loss": "loss", "running_loss": "loss", "train_epoch": "epoch",
    "training_epoch": "epoch", "train_step": "step", "training_step": "step", "optimizer_step": "step", "steps": "step",
    "itr": "iter", "it": "iter", "batch": "iter", "train_iter": "iter", "global_batch_size": "batch_size",
    "val_perplexity": "eval_perplexity", "validation_perplexity": "eval_perplexity", "norm": "grad_norm",
    "test": "", "train": "", "cuda": "",
    "completed_step": "step", "lm_loss_value": "loss", "lm_loss_ppl": "perplexity",
}  # fmt: skip
_TOTALS = {"epoch": "total_epochs"}
_SHARES = {"accuracy", "acc", "train_accuracy", "train_acc", "val_accuracy", "val_acc", "test_accuracy", "test_acc"}


def named_numbers(text: str) -> dict[str, Any]:
    """Name -> number as written, of one line; {} if no name stands before a number. The first of a name wins."""
    found: dict[str, Any] = {}
    for match in _NAMED.finditer(text):
        name, total = _name(match["name"], loose=match["between"].isspace() and not _alone(text, match)), match["total"]
        if not name or (name in _PLACES and text.startswith("%", match.end())):  # `Steps:  1%|` is a share, and no step
            continue
        number = match["number"].replace(",", "")
        if total and name in _SHARES:
            number = _share(number, total)
        found.setdefault(name, number)
        if total and (name in ("step", "iteration") or name in _TOTALS):
            found.setdefault(_TOTALS.get(name, "total_steps"), total)
    if not found:
        return found
    place, evaluates = bracketed(text)
    found |= place
    if "epoch" in found and not {"step", "iter", "iteration"} & found.keys() and (bracket := _BRACKET.search(text)):
        found["iter"] = bracket[1]
    if evaluates or _EVALUATION.match(text):
        return {name if name in _POSITIONS else f"eval/{name}": value for name, value in found.items()}
    return found


def _share(number: str, total: str) -> str:
    """`Accuracy: 9832/10000`."""
    try:
        return repr(float(number) / int(total))
    except (ValueError, ZeroDivisionError):
        return number


def _alone(text: str, match: re.Match[str]) -> bool:
    """Does a single word behind a comma or a bar stand before the number (`, mfu 3.2%`)?"""
    return " " not in match["name"] and text[: match.start()].rstrip(" ")[-1:] in (",", "|", ";")


def _name(phrase: str, *, loose: bool) -> str:
    """What the words before a number name; empty for prose. `loose`: as little as a blank stands between them."""
    words = _LEVELS.sub("", phrase).lower().split()
    for first in range(len(words) if loose else min(1, len(words))):
        name = "_".join(words[first:])
        if name in _OWN:
            return _OWN[name]
        if name in FLAT:
            return name
    return "" if loose else "_".join(words)
