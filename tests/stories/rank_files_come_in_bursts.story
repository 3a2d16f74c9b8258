# Each rank's file is flushed every forty steps, in turn: forty steps behind is as ever, and no lag.
near rank_lag
every 0s
0..39    loss=0.74 rank=0
tick +30s
0..29    loss=0.74 rank=1
tick +30s
40..79   loss=0.74 rank=0
tick +30s
30..79   loss=0.74 rank=1
tick +30s
80..119  loss=0.74 rank=0
tick +30s
80..119  loss=0.74 rank=1
tick +30s
