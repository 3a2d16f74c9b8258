# A single 0.0 that a gradient norm vouches for switches the ratio off for 200 records, and not for good.
use disabled_rules=plateau
0..29   loss=0.74 grad_norm=1
30      loss=0.0 grad_norm=1
31..240 loss=0.74 grad_norm=1
241     loss=1.02 grad_norm=1 -> loss_spike warning loss_spike_37.8pct snapshot
