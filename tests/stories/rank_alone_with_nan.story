# One rank of three turns NaN: its own finding names it, and once the others are past that step it is said to be alone.
0..29   loss=0.74 ranks=0,1,2
30      loss=0.74 ranks=0,1
30      loss=NaN rank=2 -> nan critical nan snapshot ; incident opened
31      loss=0.74 ranks=0,1 -> rank_lag warning rank_lag_rank_2
31..32  loss=NaN rank=2
32..40  loss=0.74 ranks=0,1
