# Four ranks in step; one stops while the others go on: it is named once, and over when it has come up again.
0..29   loss=0.74 ranks=0,1,2,3
30..39  loss=0.74 ranks=0,1,3
40..44  loss=0.74 ranks=0,1,3
45..60  loss=0.74 ranks=0,1,3  -> rank_lag warning rank_lag_rank_2
61..80  loss=0.74 ranks=0,1,3  -> nothing
30..78  loss=0.74 rank=2       -> incident resolved
81..99  loss=0.74 ranks=0,1,2,3 -> nothing
