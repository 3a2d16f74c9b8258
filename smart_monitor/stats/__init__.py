"""What a run has been like so far: baselines with their noise guard, and attempts.

Everything here is a bounded, pure fold with plain JSON state: no clock, no file. A rule never keeps
statistics of its own; it asks the baseline of its metric, so that one value is admitted or set aside
for all rules at once.
"""
