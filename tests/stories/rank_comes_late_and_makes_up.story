# What a rank has made up for once belongs to how its lines arrive: as much behind again is nothing.
near rank_lag
0..29    loss=0.74 ranks=0,1,2
30..69   loss=0.74 ranks=0,1 -> rank_lag warning rank_lag_rank_2
30..69   loss=0.74 rank=2
70..109  loss=0.74 ranks=0,1
70..109  loss=0.74 rank=2
