# The preset `sensitive` fires at 10 %.
use preset=sensitive
0..29   loss=0.74
30      loss=0.83          -> loss_spike warning loss_spike_12.2pct snapshot
