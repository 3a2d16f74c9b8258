"""Every story is told unbroken, and again with the engine's state put through JSON after every record."""

from __future__ import annotations

from pathlib import Path

import pytest

from smart_monitor.registry import rule_classes
from tests.stories import storytelling

STORIES = sorted(Path(__file__).parent.glob("*.story"))


@pytest.mark.parametrize("path", STORIES, ids=lambda p: p.stem)
def test_the_story_goes_as_told_and_the_same_when_cut_everywhere(path: Path) -> None:
    story = storytelling.read(path)
    assert story.why, f"{path.name} must say why it exists"
    whole = storytelling.play(story, cut=False)
    for line, said in zip(story.lines, whole, strict=True):
        storytelling.check(line, said)
    assert storytelling.plain(whole) == storytelling.plain(storytelling.play(story, cut=True))


@pytest.mark.parametrize("kind", sorted(rule_classes()))
def test_every_rule_has_a_story_in_which_it_fires_and_one_in_which_something_close_does_not(kind: str) -> None:
    stories = [storytelling.read(path) for path in STORIES]
    assert any(kind in storytelling.kinds_that_fire(s) for s in stories), f"no story in which {kind} fires"
    assert any(kind in s.near for s in stories), f"no story with `near {kind}`"
