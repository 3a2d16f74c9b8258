"""The table of checkpoints in the README is what the layouts say of themselves."""

from __future__ import annotations

from pathlib import Path

from smart_monitor.checkpoints import layouts

README = Path(__file__).parents[1] / "README.md"


def table() -> str:
    rows = ["| written by | found as | complete when nothing stirs any more and |", "|---|---|---|"]
    rows += [f"| {' | '.join(layout.recognises)} |" for layout in layouts()]
    return "\n".join(rows)


def test_the_readme_lists_every_layout_as_it_describes_itself() -> None:
    assert table() in README.read_text(encoding="utf-8")
