# 50 % above the value before it, in a run that is climbing already: no deviation is asked.
use spike_strategies=step loss_spike_threshold=9
0..39   loss=0.5~0.5%
40      loss=0.8           -> loss_spike warning loss_spike_59.7pct snapshot
41..60  loss=0.5~0.5%      -> incident resolved @45
