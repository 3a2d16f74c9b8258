"""Faces that training code calls: they measure with the probe's core and judge with the engine's own rules.

Each goes by a name and a signature that people know from elsewhere; all of them are importable from
`smart_monitor.probe`. None has statistics or thresholds of its own that a rule has: what a face sets differently from
the daemon is a setting, or a constant that the rule lets be tuned (`panel.py`).

Faces return what they measured in the same step. On a GPU they wait for it once a call; `Probe.step` never does.
"""
