# A NaN is told once an outage, and again when it comes back after a recovery.
near nan
0..9    loss=0.74 has_nan=0
10      loss=NaN           -> nan critical nan snapshot ; incident opened
11..14  loss=NaN
15..25  loss=0.74          -> incident resolved @19
26      loss=inf           -> nan critical nan snapshot
