"""Every story is told unbroken, and again with the engine's state put through JSON between its records."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from smart_monitor.registry import rule_classes
from tests.stories import storytelling

STORIES = sorted(Path(__file__).parent.glob("*.story"))
read = functools.cache(storytelling.read)


@pytest.mark.parametrize("path", STORIES, ids=lambda p: p.stem)
def test_the_story_goes_as_told_and_the_same_when_cut(path: Path) -> None:
    story = read(path)
    assert story.why, f"{path.name} must say why it exists"
    whole = storytelling.play(story)
    for line, said in zip(story.lines, whole, strict=True):
        storytelling.check(line, said)
    assert storytelling.plain(whole) == storytelling.plain(storytelling.play(story, cut_every=5))


@pytest.mark.slow
@pytest.mark.parametrize("path", STORIES, ids=lambda p: p.stem)
def test_the_story_goes_the_same_when_cut_after_every_record(path: Path) -> None:
    story = read(path)
    assert storytelling.plain(storytelling.play(story)) == storytelling.plain(storytelling.play(story, cut_every=1))


@pytest.mark.parametrize("kind", sorted(rule_classes()))
def test_every_rule_has_a_story_in_which_it_fires_and_one_in_which_something_close_does_not(kind: str) -> None:
    stories = [read(path) for path in STORIES]
    assert any(kind in storytelling.kinds_that_fire(s) for s in stories), f"no story in which {kind} fires"
    assert any(kind in s.near for s in stories), f"no story with `near {kind}`"
