"""Keeping evidence: what stands in `snapshots/` is whole and verified, whatever happens meanwhile.

`store` decides and remembers (in the daemon), `worker` copies and publishes (its own low-priority
process), `verify` and `listing` read what stands there. Nothing here knows a checkpoint layout: the
store is handed `Checkpoint` nouns.

This file imports nothing, so that the worker starts in a few tens of milliseconds.
"""
