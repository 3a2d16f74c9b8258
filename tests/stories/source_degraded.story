# A source that is gone while another can be seen is told after thirty seconds, once, until values come again.
near source_degraded
0..9    loss=0.74
tick +10s source_lost=10 status (no file)
tick +20s source_lost=30 status (no file) -> source_degraded warning source_degraded ; incident opened
tick +10s source_lost=40 status (no file) -> nothing
10      loss=0.74          -> incident resolved
