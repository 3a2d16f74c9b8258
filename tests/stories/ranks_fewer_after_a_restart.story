# Restarted on two machines in place of four: the ranks that are no more are not missed.
near rank_lag
0..29   loss=0.74 ranks=0,1,2,3 pid=1
10..29  loss=0.74 ranks=0,1 pid=2 -> restart info restart_attempt_2 ; restart info restart_attempt_2
30..99  loss=0.74 ranks=0,1 pid=2
tick +60s
