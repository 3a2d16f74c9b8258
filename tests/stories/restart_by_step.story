# A falling step is a restart and no spike; the noise is carried over, so that three values are enough.
near restart
0..39   loss=0.74~1%
40      loss=0.74
39      loss=0.74
41      loss=0.74
10      loss=2.0           -> restart info restart_attempt_2
11..13  loss=2.0~1%
14      loss=3.0           -> loss_spike warning loss_spike_49.7pct snapshot
