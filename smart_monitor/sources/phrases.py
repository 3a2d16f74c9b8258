"""Names before numbers, as people print them: `step 100 | loss 2.31`, `Epoch [3/10], Loss: 0.5`, `lr=1e-4`. Pure."""

from __future__ import annotations

import re
from typing import Any

from smart_monitor.aliases import FLAT

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][-+]?\d{1,4})?|[-+]?(?:nan|inf(?:inity)?)\b"
# Every repeat is bounded and a name begins at the border of a word only: linear in the length of the line.
_NAMED = re.compile(
    rf"(?<![\w.])(?P<name>[a-z][\w/@%()-]{{0,60}}(?: [a-z(][\w/@%()-]{{0,40}}){{0,4}})"
    rf"(?P<between>\s{{0,8}}[:=]\s{{0,8}}|\s{{1,8}})[\[(]?\s{{0,8}}(?P<number>{_NUMBER})(?![:.]?\d)(?:\s{{0,8}}/\s{{0,8}}(?P<total>\d{{1,18}}))?",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"\[\s{0,8}(\d{1,18})\s{0,8}/\s{0,8}(\d{1,18})\b")
_EVALUATION = re.compile(r"[^\w]{0,16}(?:eval|evaluation|val|valid|validation|test|testing)\b(?!\s{0,4}[_/])", re.IGNORECASE)
_LEVELS = re.compile(r"^(?:(?:info|debug|warning|error|critical|rank\d{0,6})\s+)+", re.IGNORECASE)
_POSITIONS = ("step", "iter", "iteration", "epoch", "total_steps", "total_epochs", "batch_size")
_OWN = {
    "lm_loss": "loss", "total_loss": "loss", "avg_loss": "loss", "average_loss": "loss", "train_epoch": "epoch",
    "training_epoch": "epoch", "train_step": "step", "training_step": "step", "optimizer_step": "step", "steps": "step",
    "itr": "iter", "it": "iter", "batch": "iter", "train_iter": "iter", "global_batch_size": "batch_size",
    "val_perplexity": "eval_perplexity", "validation_perplexity": "eval_perplexity", "gnorm": "grad_norm", "norm": "grad_norm",
}  # fmt: skip
_TOTALS = {"epoch": "total_epochs"}


def named_numbers(text: str) -> dict[str, Any]:
    """Name -> number as written, of one line; {} if no name stands before a number. The first of a name wins."""
    found: dict[str, Any] = {}
    for match in _NAMED.finditer(text):
        name, total = _name(match["name"], loose=match["between"].isspace() and not _alone(text, match)), match["total"]
        if not name:
            continue
        found.setdefault(name, match["number"].replace(",", ""))
        if total and (name in ("step", "iteration") or name in _TOTALS):
            found.setdefault(_TOTALS.get(name, "total_steps"), total)
    if not found:
        return found
    if "epoch" in found and not {"step", "iter", "iteration"} & found.keys() and (bracket := _BRACKET.search(text)):
        found["iter"] = bracket[1]
    if _EVALUATION.match(text):
        return {name if name in _POSITIONS else f"eval/{name}": value for name, value in found.items()}
    return found


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
