# One batch above the initial value, and then back: a spike that passes.
near loss_spike
use disabled_rules=best_model
0..49     loss=4>0.6
50..79    loss=0.6~2%
80        loss=6           -> loss_spike warning loss_spike_896.2pct snapshot ; incident opened
81..95    loss=0.6~2%      -> incident resolved @85
