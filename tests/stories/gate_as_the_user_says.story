# A gate that the user set is literal, whatever the total.
use min_steps_between_saves=200
0..29   loss=0.74 total=1000
30      loss=1.5           -> loss_spike warning loss_spike_102.7pct snapshot
31..199 loss=0.74
200     loss=3.0           -> loss_spike warning loss_spike_305.4pct gated
201..229 loss=0.74
230     loss=3.0           -> loss_spike warning loss_spike_305.4pct snapshot
231     loss=NaN           -> nan critical nan snapshot
232     loss=0.74
233     loss=NaN           -> nan critical nan snapshot
