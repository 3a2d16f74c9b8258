"""The daemon: hands and a clock for the engine.

`loop` is the main thread and owns everything that judges or writes; `eye` is a thread that only
reads; `wake` only says when to look sooner; `schedule` only runs slow jobs. They meet in one queue.
`run` is one watched run: its place, its journal, its engine and its store.
"""
