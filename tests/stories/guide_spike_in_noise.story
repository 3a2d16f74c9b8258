# The guide's first example after thirty records of real noise, with the defaults.
0..24   loss=0.74~1%
25..29  loss=0.74
30      loss=1.02          -> loss_spike warning loss_spike_37.8pct snapshot
31..40  loss=0.74~1%       -> incident resolved @35
