# The epoch falls back to its first: a restart even where steps count on.
0..9    loss=0.74 epoch=0
10..19  loss=0.74 epoch=1
20..29  loss=0.74 epoch=2
30      loss=2.2 epoch=0   -> restart info restart_attempt_2
31..34  loss=2.2 epoch=0
