# Of a run of 1000 steps in all the gate is 5 %: 50 steps.
0..29   loss=0.74 total=1000
30      loss=1.5           -> loss_spike warning loss_spike_102.7pct snapshot
31..78  loss=0.74
79      loss=3.0           -> loss_spike warning loss_spike_305.4pct gated
80..99  loss=0.74
100     loss=3.0           -> loss_spike warning loss_spike_305.4pct snapshot
