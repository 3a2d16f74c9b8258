"""Remote copies: every finished snapshot a second time, somewhere that does not burn with this machine.

`records` remembers what has been sent (a cache: the truth is what stands in `snapshots/` and what stands
at the remote), `place` is the remote behind fsspec, `upload` sends one snapshot, `sender` is the process
that sends all that wait, `process` is that process as the daemon sees it, `fetch` brings one back.

Only `place` imports fsspec, and only the sender and the command line import `place`: the daemon never does.
"""
