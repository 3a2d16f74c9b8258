"""The daemon: hands and a clock for the engine.

`loop` is the main thread: signals, host figures, systemd. Each run has a `lane`, in which one thing happens after another, and
an `eye` that only reads; the few threads of the `pool` work on all of them, and one that hangs is replaced. `wake` only says
when to look sooner; `schedule` only runs slow jobs. `run` is one watched run: its place, its journal, its engine and its store.
"""
