# 28 % is no spike, and 40 % is none where the run's own noise reaches as far.
near loss_spike
0..29   loss=0.74~1%
30      loss=0.945
31..40  loss=0.74~1%
0       loss=0.74          -> restart info restart_attempt_2
1..60   loss=0.74~1%
