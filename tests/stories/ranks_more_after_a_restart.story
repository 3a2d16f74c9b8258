# Restarted on three machines in place of two: the new rank is judged with the others, and named when it stops.
near rank_lag
0..29   loss=0.74 ranks=0,1
10..40  loss=0.74 ranks=0,1,2 -> restart info restart_attempt_2 ; restart info restart_attempt_2
41..70  loss=0.74 ranks=0,1 -> rank_lag warning rank_lag_rank_2
