"""The demonstration: a small real training that goes wrong, and the monitor that catches it.

`train` is a trainer like any other (and imports nothing of the monitor), `show` starts both as
processes of their own and prints what was caught. `language_model` is what is trained, `output` how
the trainer writes its files.
"""
