# Another process goes on from a later step: a restart all the same.
0..29   loss=0.74 pid=100
30      loss=2.2 pid=101   -> restart info restart_attempt_2
31..34  loss=2.2 pid=101
