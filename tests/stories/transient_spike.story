# A spike of one point resolves as transient after five records without it.
0..29   loss=0.74~1%
30      loss=1.5           -> loss_spike warning loss_spike_101.4pct snapshot ; incident opened
31..40  loss=0.74~1%       -> incident resolved @35
