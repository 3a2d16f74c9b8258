"""How strict the noise guard is: the figures that only the baseline asks for."""

from __future__ import annotations

YOUNG_STEPS = 6.0
"""Steps from which YOUNG_FACTOR is enough; the largest of fewer is smaller by chance, so that more is asked."""
YOUNG_WINDOW = 10
"""Steps looked back on: the first ones of a training are far steeper than all that follow."""
LATELY, LATELY_SHARE = 24, 0.65
"""The latest steps are asked on their own too, for relative to a falling loss its noise grows; by that share of what
they say, for the quartiles of so few stray by a third."""
STEPS_GUARD = 16.0
"""Step noises above the mean from which a value stands out, where the level itself is on the move."""
FLOOR = 0.01
"""The least noise, relative to the level."""
STEEP = 1 + STEPS_GUARD * FLOOR
"""Times the mean below which no level on the move makes a value stand out."""
STEPS_LEAST = 2.0
"""Noises that it must be above the level all the same."""
ABOVE_HIGHEST = 2.0
"""Step noises, compounded, that it must be above the highest of the level's window."""
IN_A_ROW = 4
"""Values set aside in a row for which less is asked of each: chance must come true every time."""
LASTING, LASTING_RISE, LASTING_STEPS = 3, 0.5, 14.0
"""So many values in a row that are half above the level and so many step noises last, whatever outliers there were."""
TRANSIENT = 2
"""Values in a row that may be set aside and still count as outliers of the run, not as an event."""
BACK = 0.5
"""Share of the way to the edge from which a value after others set aside is not back yet: where the edge is far out, what
lasts drops below it now and then, and would raise the run's own noise until nothing stands out."""
QUARTILES_TO_SIGMA = 1 / 1.349
BEGINNING = 5
LEARNED, LEARNED_POINTS = 0.5, 20.0
"""Share of its beginning that a loss must have lost, or points that an accuracy must have gained, to lose it again."""
TAIL = 0.25
"""Fewer than NOISE_WINDOW residuals have seen less of their tail: the largest of n grows as n^TAIL (tail index 4)."""
